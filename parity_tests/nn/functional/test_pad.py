"""F.pad beside torch's for every small size, crops and paddings mixed."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from fluxmod.nn import functional as F


def torchs(x, pad, mode):
    """torch's result, or None where it refuses."""
    try:
        return torch.nn.functional.pad(x, pad, mode)
    except (ValueError, RuntimeError, IndexError):
        return None


def uninitialised(n, pad, mode):
    """Whether torch wraps around elements that its crop has removed, and returns raw memory."""
    left = n + min(pad[0], 0) + min(pad[1], 0)
    return mode == "circular" and left < max(*pad, 0)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate", "circular"])
@pytest.mark.parametrize("n", range(4))
def test_every_small_padding_is_torchs(n, mode):
    for pad in itertools.product(range(-4, 5), repeat=2):
        x = torch.arange(1.0, 1 + 2 * n, dtype=torch.float64).reshape(1, 2, n).requires_grad_()
        ours = jnp.asarray(x.detach().numpy().transpose(0, 2, 1))
        want = torchs(x, pad, mode)
        if want is None or uninitialised(n, pad, mode):
            with pytest.raises((ValueError, NotImplementedError)):
                F.pad(ours, pad, mode, channels_last=True)
            continue
        got, back = jax.vjp(lambda a, pad=pad: F.pad(a, pad, mode, channels_last=True), ours)
        np.testing.assert_array_equal(got.transpose(0, 2, 1), want.detach(), str(pad))
        if want.numel():
            slope = np.arange(1.0, 1 + want.numel()).reshape(want.shape)
            want.backward(torch.from_numpy(slope))
            (grad,) = back(jnp.asarray(slope.transpose(0, 2, 1)))
            np.testing.assert_array_equal(grad.transpose(0, 2, 1), x.grad, str(pad))
