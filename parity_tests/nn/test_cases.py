"""The checks themselves: each one fails on a layer with a fault planted in it."""

from __future__ import annotations

from dataclasses import replace

import jax
import pytest
from torch import nn as tnn

from fluxmod import nn
from parity_tests.nn.cases import CHECKS, Case, run


class WrongShape(nn.Linear):
    def __call__(self, input):
        return super().__call__(input)[None]


class DroppedBias(nn.Linear):
    def __call__(self, input):
        return nn.functional.linear(input, self.kernel[...])


class NoInputGradient(nn.Linear):
    def __call__(self, input):
        return super().__call__(jax.lax.stop_gradient(input))


class NoBiasGradient(nn.Linear):
    def __call__(self, input):
        bias = jax.lax.stop_gradient(self.bias[...])
        return nn.functional.linear(input, self.kernel[...], bias)


class NoUpdate(nn.BatchNorm1d):
    def _update(self, mean, var, *, empty):
        pass


class OtherWhenCompiled(nn.Linear):
    def __call__(self, input):
        out = super().__call__(input)
        return out + 1 if isinstance(out, jax.core.Tracer) else out


class Forgetful(nn.Linear):
    """Remembers something outside the module, which is lost when it is taken apart."""

    first: dict[type, int] = {}

    def __call__(self, input):
        owner = self.first.setdefault(type(self), id(self))
        return super().__call__(input) + float(owner == id(self))


class OtherText(nn.Linear):
    def extra_repr(self):
        return "in_features=3"


class Imprecise(nn.Linear):
    def __call__(self, input):
        if input.dtype == "float32":  # a sum that loses digits would be folded by the compiler
            input = jax.lax.reduce_precision(input, exponent_bits=8, mantissa_bits=12)
        return super().__call__(input)


class OtherOrder(nn.Module):
    def __init__(self, *, rngs, param_dtype):
        self.second = nn.Linear(3, 3, rngs=rngs, param_dtype=param_dtype)
        self.first = nn.Linear(3, 3, rngs=rngs, param_dtype=param_dtype)


class InOrder(tnn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = tnn.Linear(3, 3), tnn.Linear(3, 3)


def linear(flax):
    return Case(flax.__name__, tnn.Linear, flax, (3, 5), x=(4, 3))


PLANTED = {
    "shape_dtype": linear(WrongShape),
    "forward": linear(DroppedBias),
    "input_grads": linear(NoInputGradient),
    "param_grads": linear(NoBiasGradient),
    "state": Case("NoUpdate", tnn.BatchNorm1d, NoUpdate, (3,), x=(4, 3)),
    "jit": linear(OtherWhenCompiled),
    "split_merge": linear(Forgetful),
    "round_trip": Case("OtherOrder", InOrder, OtherOrder),
    "repr": linear(OtherText),
    "float32": linear(Imprecise),
}


@pytest.mark.parametrize("check", CHECKS)
def test_a_planted_fault_is_caught(check):
    with pytest.raises(AssertionError):
        run(PLANTED[check], check)


@pytest.mark.parametrize("check", [c for c in PLANTED if c not in ("jit", "split_merge")])
def test_the_check_of_everything_catches_it_too(check):
    """But for what only an eager call beside a compiled one can show."""
    case = PLANTED[check]
    if check != "repr":  # the name alone would be seen
        named = {"__module__": __name__}
        same_name = type(case.flax)(case.torch.__name__, (case.flax,), named)
        case = replace(case, flax=same_name)
    with pytest.raises(AssertionError):
        run(case, "whole")
