"""What a user may put in the place of an operator or a module, and which sizes may be free."""

from __future__ import annotations

import sys

import jax
import jax.numpy as jnp
import pytest
import torch
from flax import nnx

from fluxmod import nn, porter
from fluxmod._errors import CaptureError, UnsupportedOpError
from parity_tests.porter.certified import require_equal

HERE = sys.modules[__name__]


@torch.library.custom_op("fluxmod_test::wave", mutates_args=())
def wave(x: torch.Tensor, rate: float) -> torch.Tensor:
    return torch.sin(x) * rate


wave.register_fake(lambda x, rate: torch.empty_like(x))
wave.register_autograd(
    lambda ctx, grad: (grad * torch.cos(ctx.saved_tensors[0]) * ctx.rate, None),
    setup_context=lambda ctx, inputs, output: (
        ctx.save_for_backward(inputs[0]),
        setattr(ctx, "rate", inputs[1]),
    ),
)


def flax_wave(x: jax.Array, rate: float) -> jax.Array:
    return jnp.sin(x) * rate


def flax_relu(x: jax.Array) -> jax.Array:
    return jnp.where(x > 0, x, 0.0)


class Spectrum(torch.nn.Module):
    """Has an operator without a rule, whose result it does not need."""

    def __init__(self, dim):
        super().__init__()
        self.dim = dim
        self.fc = torch.nn.Linear(dim, dim)

    def forward(self, x):
        torch.linalg.eigvals(self.fc.weight)
        return self.fc(x) + 0 * torch.special.bessel_j0(self.fc.weight).sum()


class FlaxSpectrum(nn.Module):
    def __init__(self, dim: int, *, rngs: nnx.Rngs) -> None:
        self.fc = nn.Linear(dim, dim, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.fc(x)


class Waves(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3)
        self.head = Spectrum(4)

    def forward(self, x):
        x = torch.ops.fluxmod_test.wave(self.conv(x), 2.0)
        return self.head(torch.relu(x).mean((2, 3)))


class Pool(torch.nn.Module):
    def forward(self, x):
        return torch.nn.functional.avg_pool2d(x, 2).flatten(2).mean(-1)


def test_an_operator_and_a_class_of_modules_are_replaced():
    theirs = Waves()
    x = torch.randn(2, 3, 6, 5)
    options = porter.Options(
        overrides={"fluxmod_test::wave": flax_wave, Spectrum: FlaxSpectrum, "aten.relu": flax_relu}
    )
    ours = porter.port(theirs, x, options=options)
    text = porter.source(ours)
    assert "self.head = FlaxSpectrum(4, rngs=rngs)" in text
    assert "flax_wave(self.conv(x).transpose(0, 3, 1, 2), 2.0)" in text
    assert f"from {__name__} import FlaxSpectrum, flax_relu, flax_wave\n" in text
    require_equal(theirs, ours, x)


def test_a_module_is_named_by_its_path_and_a_replacement_by_its_dotted_name():
    theirs = Waves()
    x = torch.randn(2, 3, 6, 5)
    names = {
        "fluxmod_test.wave.default": f"{__name__}.flax_wave",
        "head": f"{__name__}:FlaxSpectrum",
    }
    ours = porter.port(theirs, x, options=porter.Options(overrides=names))
    require_equal(theirs, ours, x)
    by_class = {f"{__name__}:Spectrum": FlaxSpectrum, "fluxmod_test::wave": flax_wave}
    again = porter.port(theirs, x, options=porter.Options(overrides=by_class))
    assert porter.source(again) == porter.source(ours)


def test_without_replacements_the_obstacles_are_named():
    with pytest.raises(UnsupportedOpError) as caught:
        porter.port(Waves(), torch.randn(2, 3, 6, 5))
    assert "fluxmod_test.wave" in str(caught.value)
    assert "special_bessel_j0" in str(caught.value)


def test_replacements_that_cannot_be_used_are_refused_all_at_once():
    given = {
        "fluxmod_test::wave": lambda x, rate: x,
        FlaxSpectrum: FlaxSpectrum,
        "head": flax_wave,
        "nothing": flax_wave,
        "aten.relu": 3,
    }
    with pytest.raises(ValueError, match="overrides that cannot be used") as caught:
        porter.port(Waves(), torch.randn(2, 3, 6, 5), options=porter.Options(overrides=given))
    text = str(caught.value)
    assert "wave: " in text
    assert "define it at the top of a module" in text
    assert "FlaxSpectrum: the model has no module of class FlaxSpectrum" in text
    assert "head: expected a class of nnx.Module, got <function flax_wave" in text
    assert "nothing: neither a module's path or class nor an operator" in text
    assert "aten.relu: expected a function, a class or a dotted name, got 3" in text


def test_a_replacement_whose_argument_the_module_lacks_is_refused():
    class Bare(torch.nn.Module):
        def forward(self, x):
            return x + 1

    options = porter.Options(overrides={Bare: FlaxSpectrum})
    with pytest.raises(ValueError, match=r"FlaxSpectrum.__init__ needs 'dim', and Bare has no"):
        porter.port(torch.nn.Sequential(Bare()), torch.randn(2, 3), options=options)


def test_sizes_are_free_where_asked_for():
    x = torch.randn(2, 3, 8, 10)
    ours = porter.port(Pool(), x, options=porter.Options(dynamic={"x": (0, 2, -1)}))
    assert [i.shape for i in porter.inputs(ours)] == [("N", "H", "W", 3)]
    for other in (x, torch.randn(5, 3, 4, 6)):
        require_equal(Pool(), ours, other)


def test_a_free_size_that_torch_fixes_is_refused():
    class Fixed(torch.nn.Module):
        def forward(self, x):
            return x.reshape(-1, 24)

    with pytest.raises(CaptureError, match="cannot be traced in evaluation mode"):
        porter.port(Fixed(), torch.randn(2, 24), options=porter.Options(dynamic={"x": (1,)}))
    with pytest.raises(ValueError, match="dynamic names y; Fixed.forward was called with x"):
        porter.port(Fixed(), torch.randn(2, 24), options=porter.Options(dynamic={"y": (1,)}))
