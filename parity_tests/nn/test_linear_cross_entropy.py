from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from fluxmod import nn
from fluxmod.nn import functional as F

RNG = np.random.default_rng(0)
X, KERNEL, BIAS = (jnp.asarray(RNG.standard_normal(s), jnp.float32) for s in ((7, 3), (3, 5), (5,)))
LABELS, WEIGHT = jnp.array([0, 1, 4, -100, 2, 3, 0]), jnp.array([0.5, 1.0, 2.0, 1.5, 0.1])
Options = nn.LinearCrossEntropyOptions


def loss(x, kernel, bias, options, **kwargs):
    return F.linear_cross_entropy(
        x, kernel, LABELS, linear_bias=bias, weight=WEIGHT, options=options, **kwargs
    ).sum()


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize(
    "options", [Options(), Options(batch_chunk_size=2), Options(chunking_method="aspect_ratio:3")]
)
def test_chunks_change_nothing(reduction, options):
    def grads(options):
        return jax.jit(
            jax.value_and_grad(loss, (0, 1, 2)), static_argnames=("options", "reduction")
        )(X, KERNEL, BIAS, options=options, reduction=reduction)

    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        grads(options),
        grads(None),
    )


def test_chunks_never_hold_all_logits():
    rows, classes = 512, 4096
    x, kernel = jnp.ones((rows, 8)), jnp.ones((8, classes))
    labels = jnp.zeros(rows, jnp.int32)

    def held(options):
        work = jax.grad(lambda x: F.linear_cross_entropy(x, kernel, labels, options=options))
        return jax.jit(work).lower(x).compile().memory_analysis().temp_size_in_bytes

    assert held(Options(batch_chunk_size=32)) < rows * classes * 4 / 4 < held(None)


def test_labels_out_of_range_are_refused_in_chunks_too():
    with pytest.raises(IndexError, match="labels must lie in"):
        F.linear_cross_entropy(X, KERNEL, LABELS + 4, options=Options(), ignore_index=-96)


def test_half_precision_is_summed_in_float32():
    x, kernel = X.astype(jnp.bfloat16), KERNEL.astype(jnp.bfloat16)
    whole = F.linear_cross_entropy(x, kernel, LABELS)
    parts = F.linear_cross_entropy(x, kernel, LABELS, options=Options(batch_chunk_size=2))
    assert whole.dtype == parts.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.float32(parts), np.float32(whole), rtol=2**-8)


@pytest.mark.parametrize(
    "kwargs",
    [
        {"acc_policy": "best"},
        {"chunking_method": "half"},
        {"chunking_method": "aspect_ratio:0"},
        {"batch_chunk_size": 0},
    ],
)
def test_options_that_both_refuse(kwargs):
    theirs = getattr(torch.nn, "LinearCrossEntropyOptions", None)  # torch 2.13
    if theirs is not None:
        with pytest.raises(ValueError, match=next(iter(kwargs))):
            theirs(**kwargs)
    with pytest.raises(ValueError, match=next(iter(kwargs))):
        Options(**kwargs)


def test_a_size_and_a_method_that_disagree_are_refused():
    with pytest.raises(ValueError, match="exclude each other"):
        loss(X, KERNEL, BIAS, Options(batch_chunk_size=3, chunking_method="aspect_ratio"))


def test_every_shape_that_does_not_fit_is_named():
    with pytest.raises(ValueError, match=r"linear_bias must .* further axes needs a batch"):
        F.linear_cross_entropy(jnp.ones(3), jnp.ones((3, 5, 2)), LABELS, linear_bias=jnp.ones(5))


def test_the_layer_prints_its_options():
    layer = nn.LinearCrossEntropyLoss(3, 5, options=Options(batch_chunk_size=2), rngs=nnx.Rngs(0))
    assert "batch_chunk_size=2" in str(layer)
    assert jnp.isfinite(nnx.jit(lambda m, x, y: m(x, y))(layer, X, LABELS))
