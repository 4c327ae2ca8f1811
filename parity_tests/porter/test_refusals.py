"""What cannot be ported is refused with every obstacle named."""

from __future__ import annotations

import pytest
import torch

from fluxmod import porter
from fluxmod._errors import CaptureError, PortError, UnsupportedOpError
from parity_tests.porter.models.misc import DataDependent


class Outer(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.body = DataDependent()

    def forward(self, x):
        return self.body(x)


class TwoProblems(torch.nn.Module):
    def forward(self, x):
        a = torch.special.erfcx(x)
        return a.sum() + torch.special.bessel_j0(x).sum()


def test_python_that_decides_on_values_is_refused_with_its_place():
    with pytest.raises(CaptureError) as caught:
        porter.port(Outer(), torch.randn(2, 4))
    text = str(caught.value)
    assert "Outer cannot be traced in evaluation mode" in text
    assert "Python decides on the values of a tensor" in text
    assert "in body\n" in text
    assert "models/misc.py:" in text
    assert "if x.sum() > 0:" in text
    assert "torch.cond" in text


def test_a_refusal_prints_nothing_else(capfd):
    with pytest.raises(CaptureError):
        porter.port(DataDependent(), torch.randn(2, 4))
    assert capfd.readouterr() == ("", "")


def test_all_missing_operators_are_listed_at_once():
    with pytest.raises(UnsupportedOpError) as caught:
        porter.port(TwoProblems(), torch.randn(3, 4))
    text = str(caught.value)
    assert "special_erfcx" in text
    assert "bessel_j0" in text
    assert "test_refusals.py:" in text


def test_a_module_that_was_not_ported_has_no_source():
    from flax import nnx

    with pytest.raises(PortError, match="was not made by"):
        porter.source(nnx.Linear(2, 3, rngs=nnx.Rngs(0)))


def test_an_unknown_layout_is_refused():
    with pytest.raises(ValueError, match="layout"):
        porter.Options(layout="nchw")


class HoldsOneOfFourTwice(torch.nn.Module):
    def __init__(self):
        super().__init__()
        layers = [torch.nn.Linear(3, 3) for _ in range(4)]
        self.steps = torch.nn.ModuleList([*layers, torch.nn.ReLU(), layers[1]])

    def forward(self, x):
        for step in self.steps:
            x = step(x)
        return x


def test_a_layer_that_a_loop_makes_and_the_list_holds_again():
    with pytest.raises(PortError, match="held by the same list again"):
        porter.port(HoldsOneOfFourTwice(), torch.randn(2, 3))
