from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

from fluxmod import optim
from parity_tests.compare import same

SHAPES = {"a": (3, 4), "b": (5,), "c": ()}


def gradients(scale, dtype=np.float64):
    draw = np.random.default_rng(0)
    return {name: np.asarray(scale * draw.normal(size=s), dtype) for name, s in SHAPES.items()}


def by_torch(clip, grads):
    params = [torch.nn.Parameter(torch.tensor(g)) for g in grads.values()]
    for p in params:
        p.grad = p.detach().clone()
    clip(params)
    return {name: p.grad for name, p in zip(grads, params, strict=True)}


def by_ours(tx, grads):
    grads = {name: jnp.asarray(g) for name, g in grads.items()}
    return tx.update(grads, tx.init(grads))[0]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("norm_type", [2.0, 1.0, 3.0, float("inf")])
@pytest.mark.parametrize("scale", [0.0, 1e-3, 1.0, 1e3, float("nan"), float("inf")])
def test_norm_is_clipped_as_in_torch(scale, norm_type):
    grads = gradients(scale)
    want = by_torch(lambda p: torch.nn.utils.clip_grad_norm_(p, 1.0, norm_type), grads)
    same(by_ours(optim.clip_grad_norm(1.0, norm_type), grads), want, 1e-14)


@pytest.mark.usefixtures("x64")
def test_norm_of_exactly_max_norm_is_still_scaled_by_the_1e_6():
    grads = {"a": np.array([0.6, 0.8])}
    got = by_ours(optim.clip_grad_norm(1.0), grads)["a"]
    assert got[0] < 0.6
    same({"a": got}, by_torch(lambda p: torch.nn.utils.clip_grad_norm_(p, 1.0), grads), 1e-15)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3, float("nan")])
def test_values_are_clipped_as_in_torch(scale):
    grads = gradients(scale)
    want = by_torch(lambda p: torch.nn.utils.clip_grad_value_(p, 0.5), grads)
    same(by_ours(optim.clip_grad_value(0.5), grads), want, 0.0)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_dtype_is_kept(dtype):
    grads = {"a": jnp.ones((3,), dtype), "b": jnp.ones((2,), jnp.float32)}
    got = by_ours(optax.chain(optim.clip_grad_norm(0.1), optim.clip_grad_value(0.05)), grads)
    assert (got["a"].dtype, got["b"].dtype) == (dtype, jnp.float32)


@pytest.mark.parametrize("make", [optim.clip_grad_norm, optim.clip_grad_value])
def test_a_negative_limit_is_refused(make):
    with pytest.raises(ValueError, match="at least 0, got"):
        make(-1.0)
    with pytest.raises(ValueError, match="norm_type"):
        optim.clip_grad_norm(1.0, 0)
