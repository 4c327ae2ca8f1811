"""What the stacks do beside calling layers: copies of their own, and causal masks recognised."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from torch import nn as tnn

from fluxmod import convert, nn

# torch explains at length why its fast path is off
pytestmark = pytest.mark.filterwarnings("ignore:enable_nested_tensor is True:UserWarning")


def causal(size):
    return np.triu(np.ones((size, size), bool), 1)


# --- copies in a stack --------------------------------------------------------------------------


def _stack(layers=3, **options):
    layer = nn.TransformerEncoderLayer(8, 2, 16, **options, rngs=nnx.Rngs(0))
    return layer, nn.TransformerEncoder(layer, layers)


def test_copies_start_with_the_layers_weights_in_arrays_of_their_own():
    layer, stack = _stack()
    before = convert.to_torch(layer)
    for copy in stack.layers:
        for name, value in convert.to_torch(copy).items():
            np.testing.assert_array_equal(value, before[name])
    arrays = [leaf for leaf in jax.tree.leaves(nnx.state((layer, stack), nnx.Param))]
    assert len({a.unsafe_buffer_pointer() for a in arrays}) == len(arrays) == 4 * 12
    stack.layers[0].linear1.bias[...] += 1
    np.testing.assert_array_equal(layer.linear1.bias[...], before["linear1.bias"])
    np.testing.assert_array_equal(stack.layers[1].linear1.bias[...], before["linear1.bias"])


def test_copies_draw_masks_of_their_own():
    layer, stack = _stack(dropout=0.5)
    x = jnp.ones((5, 3, 8))
    drawn = [np.asarray(module(x)) for module in (layer, *stack.layers)]
    for i, one in enumerate(drawn):
        assert not any(np.array_equal(one, other) for other in drawn[:i])
    streams = [s for _, s in nnx.iter_graph((layer, stack)) if isinstance(s, nnx.RngStream)]
    keys = {tuple(jax.random.key_data(s.key[...]).tolist()) for s in streams}
    assert len(keys) == len(streams) == 4 * 4


def test_copies_keep_the_mode_and_the_shared_variables_of_the_layer():
    class Tied(nn.TransformerEncoderLayer):
        def __init__(self, **options):
            super().__init__(8, 2, 8, **options)
            self.linear2.kernel = self.linear1.kernel

    layer = Tied(rngs=nnx.Rngs(0))
    layer.eval()
    stack = nn.TransformerEncoder(layer, 2, nn.LayerNorm(8))
    assert [copy.training for copy in stack.layers] == [False, False]
    assert all(copy.linear1.kernel is copy.linear2.kernel for copy in stack.layers)
    assert stack.layers[0].linear1.kernel is not stack.layers[1].linear1.kernel


def test_a_stack_can_be_donated():
    _, stack = _stack(dropout=0.5)
    graph, state = nnx.split(stack)

    def step(state, x):
        model = nnx.merge(graph, state)
        return nnx.state(model), model(x)

    compiled = jax.jit(step, donate_argnums=0)
    state, first = compiled(state, jnp.ones((5, 3, 8)))
    state, second = compiled(state, jnp.ones((5, 3, 8)))
    assert not np.array_equal(first, second)


def test_the_norm_is_not_copied():
    norm = nn.LayerNorm(8)
    assert nn.TransformerEncoder(_stack()[0], 1, norm).norm is norm
    layer = nn.TransformerDecoderLayer(8, 2, 16, rngs=nnx.Rngs(0))
    assert nn.TransformerDecoder(layer, 1, norm).norm is norm


# --- causal masks -------------------------------------------------------------------------------


class _TheirSpy(tnn.Module):
    def __init__(self, seen, batch_first):
        super().__init__()
        self.self_attn = tnn.MultiheadAttention(4, 1, batch_first=batch_first)
        self.seen = seen

    def __deepcopy__(self, memo):
        return self

    def forward(self, x, *args, **kwargs):
        self.seen.append(kwargs.get("is_causal", kwargs.get("tgt_is_causal")))
        return x


def _our_spy(seen, first):
    class Spy(nn.Module):
        def __init__(self):
            self.self_attn = nn.MultiheadAttention(4, 1, batch_first=first, rngs=nnx.Rngs(0))

        def __call__(self, x, *args, **kwargs):
            seen.append(kwargs.get("is_causal", kwargs.get("tgt_is_causal")))
            return x

    return Spy()


LEAKY = np.where(causal(5), -np.inf, 0.0).astype(np.float32)
LEAKY[2, 1] = 0.5
FOUND = {
    "none": None,
    "bool": causal(5),
    "float": np.where(causal(5), -np.inf, 0.0).astype(np.float32),
    "large-negative": np.where(causal(5), -1e9, 0.0).astype(np.float32),
    "one-value-off": LEAKY,
    "bool-one-off": causal(5) & ~np.eye(5, k=4, dtype=bool),
    "other-size": causal(4),
    "per-head": causal(5)[None],
    "reversed": causal(5).T,
}


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("kind", ["Encoder", "Decoder"])
@pytest.mark.parametrize("given", [None, False, True])
@pytest.mark.parametrize("mask", FOUND)
def test_a_causal_mask_is_found_where_torch_finds_it(mask, given, kind, first):
    theirs, ours = [], []
    x = np.zeros((3, 5, 4) if first else (5, 3, 4), np.float32)
    names = ("mask", "is_causal") if kind == "Encoder" else ("tgt_mask", "tgt_is_causal")
    both = [x] if kind == "Encoder" else [x, x]
    stack = getattr(tnn, f"Transformer{kind}")(_TheirSpy(theirs, first), 1)
    here = None if FOUND[mask] is None else torch.from_numpy(FOUND[mask])
    stack(*map(torch.from_numpy, both), **dict(zip(names, (here, given), strict=True)))
    stack = getattr(nn, f"Transformer{kind}")(_our_spy(ours, first), 1)
    here = None if FOUND[mask] is None else jnp.asarray(FOUND[mask])
    stack(*map(jnp.asarray, both), **dict(zip(names, (here, given), strict=True)))
    assert ours == theirs
    assert len(ours) == 1


def test_compiled_and_eager_agree_on_a_causal_mask():
    """A mask that is traced cannot be recognised; it is applied."""
    _, stack = _stack(2, dropout=0.0)
    x = jax.random.normal(jax.random.key(0), (5, 3, 8))
    mask = nn.Transformer.generate_square_subsequent_mask(5)
    eager = stack(x, mask)
    compiled = nnx.jit(lambda model, x, mask: model(x, mask))(stack, x, mask)
    np.testing.assert_allclose(compiled, eager, rtol=0, atol=2e-6)
    changed = stack(x.at[4].add(1.0), mask)
    np.testing.assert_array_equal(changed[:4], eager[:4])


@pytest.mark.parametrize("size", [0, 1, 4])
@pytest.mark.parametrize("dtype", [None, "float64", "bfloat16", "bool"])
def test_square_subsequent_mask(size, dtype, x64):
    name = "float32" if dtype is None else dtype
    theirs = tnn.Transformer.generate_square_subsequent_mask(
        size, dtype=None if dtype is None else getattr(torch, dtype)
    )
    here = jax.devices()[0]
    ours = nn.Transformer.generate_square_subsequent_mask(
        size, device=here, dtype=None if dtype is None else jnp.dtype(dtype)
    )
    assert (ours.dtype, ours.device) == (jnp.dtype(name), here)
    np.testing.assert_array_equal(np.asarray(ours, np.float64), theirs.double().numpy())
