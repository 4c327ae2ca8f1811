"""Transformer and its two stacks of layers."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from fluxmod.nn import functional as F

from ._container import ModuleList
from ._init import scaled_uniform
from ._layernorm import LayerNorm
from ._module import Module, named_modules, named_variables
from ._transformer_layer import Activation, TransformerDecoderLayer, TransformerEncoderLayer

__all__ = ["Transformer", "TransformerDecoder", "TransformerEncoder"]


class TransformerEncoder(Module):
    """A stack of copies of one encoder layer; the twin of ``torch.nn.TransformerEncoder``.

    Shape:
        src: what the layer takes; returns the same.

    Args:
        encoder_layer: copied ``num_layers`` times; all copies start with its weights, and each
            draws its own dropout masks.
        norm: applied to the last layer's output; not copied.
        enable_nested_tensor, mask_check: accepted; they only steer torch's fast path.

    Differs from torch: none with gradients enabled; see ``TransformerEncoderLayer``.

    >>> rngs = nnx.Rngs(0)
    >>> layer = TransformerEncoderLayer(8, nhead=2, dim_feedforward=16, rngs=rngs)
    >>> TransformerEncoder(layer, 2)(jnp.ones((5, 3, 8))).shape
    (5, 3, 8)

    Source: torch.nn.TransformerEncoder, PyTorch 2.13 documentation.
    """

    def __init__(
        self,
        encoder_layer: Any,
        num_layers: int,
        norm: Any = None,
        enable_nested_tensor: bool = True,
        mask_check: bool = True,
    ) -> None:
        self.layers = ModuleList(_copies(encoder_layer, num_layers))
        self.num_layers = num_layers
        self.norm = nnx.data(None) if norm is None else norm
        self.enable_nested_tensor = enable_nested_tensor
        self.mask_check = mask_check

    def __call__(
        self,
        src: jax.Array,
        mask: jax.Array | None = None,
        src_key_padding_mask: jax.Array | None = None,
        is_causal: bool | None = None,
    ) -> jax.Array:
        """Apply the layers in turn; a causal ``mask`` is recognised when ``is_causal`` is None."""
        causal = _is_causal(mask, is_causal, _length(src, self.layers[0]))
        for layer in self.layers:
            src = layer(
                src, src_mask=mask, is_causal=causal, src_key_padding_mask=src_key_padding_mask
            )
        return src if self.norm is None else self.norm(src)


class TransformerDecoder(Module):
    """A stack of copies of one decoder layer; the twin of ``torch.nn.TransformerDecoder``.

    Shape:
        tgt, memory: what the layer takes; returns tgt's shape.

    Args:
        decoder_layer: copied ``num_layers`` times; all copies start with its weights, and each
            draws its own dropout masks.
        norm: applied to the last layer's output; not copied.

    >>> rngs = nnx.Rngs(0)
    >>> layer = TransformerDecoderLayer(8, nhead=2, dim_feedforward=16, rngs=rngs)
    >>> TransformerDecoder(layer, 2)(jnp.ones((5, 3, 8)), jnp.ones((7, 3, 8))).shape
    (5, 3, 8)

    Source: torch.nn.TransformerDecoder, PyTorch 2.13 documentation.
    """

    def __init__(self, decoder_layer: Any, num_layers: int, norm: Any = None) -> None:
        self.layers = ModuleList(_copies(decoder_layer, num_layers))
        self.num_layers = num_layers
        self.norm = nnx.data(None) if norm is None else norm

    def __call__(
        self,
        tgt: jax.Array,
        memory: jax.Array,
        tgt_mask: jax.Array | None = None,
        memory_mask: jax.Array | None = None,
        tgt_key_padding_mask: jax.Array | None = None,
        memory_key_padding_mask: jax.Array | None = None,
        tgt_is_causal: bool | None = None,
        memory_is_causal: bool = False,
    ) -> jax.Array:
        """Apply the layers in turn; a causal ``tgt_mask`` is recognised, as in the encoder."""
        causal = _is_causal(tgt_mask, tgt_is_causal, _length(tgt, self.layers[0]))
        for layer in self.layers:
            tgt = layer(
                tgt,
                memory,
                tgt_mask=tgt_mask,
                memory_mask=memory_mask,
                tgt_key_padding_mask=tgt_key_padding_mask,
                memory_key_padding_mask=memory_key_padding_mask,
                tgt_is_causal=causal,
                memory_is_causal=memory_is_causal,
            )
        return tgt if self.norm is None else self.norm(tgt)


class Transformer(Module):
    """Encoder and decoder; the twin of ``torch.nn.Transformer``.

    Shape:
        src: (S, N, d_model), tgt: (T, N, d_model); N first with ``batch_first``, or both without
        N. Returns tgt's shape.

    Args:
        custom_encoder, custom_decoder: modules used as they are, apart from their initial weights.
        rngs: source of the 'params' keys and of the 'dropout' streams.

    As in torch every parameter with more than one axis starts Xavier-uniform, so that the layers
    differ.

    Raises:
        ValueError: src or tgt do not have ``d_model`` features, or differ in batch size.

    >>> model = Transformer(8, 2, 1, 1, dim_feedforward=16, rngs=nnx.Rngs(0))
    >>> mask = Transformer.generate_square_subsequent_mask(5)
    >>> model(jnp.ones((7, 3, 8)), jnp.ones((5, 3, 8)), tgt_mask=mask).shape
    (5, 3, 8)

    Source: torch.nn.Transformer, PyTorch 2.13 documentation; Vaswani et al., 2017.
    """

    def __init__(
        self,
        d_model: int = 512,
        nhead: int = 8,
        num_encoder_layers: int = 6,
        num_decoder_layers: int = 6,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str | Activation = F.relu,
        custom_encoder: Any = None,
        custom_decoder: Any = None,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        *,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        precision: Any = None,
        rngs: nnx.Rngs,
    ) -> None:
        types = {"dtype": dtype, "param_dtype": param_dtype}
        sizes = (d_model, nhead, dim_feedforward, dropout, activation, layer_norm_eps)
        flags = (batch_first, norm_first, bias)
        options = {**types, "precision": precision, "rngs": rngs}
        if custom_encoder is None:
            custom_encoder = TransformerEncoder(
                TransformerEncoderLayer(*sizes, *flags, **options),
                num_encoder_layers,
                LayerNorm(d_model, eps=layer_norm_eps, bias=bias, **types),
            )
        if custom_decoder is None:
            custom_decoder = TransformerDecoder(
                TransformerDecoderLayer(*sizes, *flags, **options),
                num_decoder_layers,
                LayerNorm(d_model, eps=layer_norm_eps, bias=bias, **types),
            )
        self.encoder = custom_encoder
        self.decoder = custom_decoder
        _draw_matrices(self, rngs)
        self.d_model = d_model
        self.nhead = nhead
        self.batch_first = batch_first

    def __call__(
        self,
        src: jax.Array,
        tgt: jax.Array,
        src_mask: jax.Array | None = None,
        tgt_mask: jax.Array | None = None,
        memory_mask: jax.Array | None = None,
        src_key_padding_mask: jax.Array | None = None,
        tgt_key_padding_mask: jax.Array | None = None,
        memory_key_padding_mask: jax.Array | None = None,
        src_is_causal: bool | None = None,
        tgt_is_causal: bool | None = None,
        memory_is_causal: bool = False,
    ) -> jax.Array:
        """Encode ``src`` and decode ``tgt``; masks as in ``nn.MultiheadAttention``."""
        self._check(src, tgt)
        memory = self.encoder(
            src,
            mask=src_mask,
            src_key_padding_mask=src_key_padding_mask,
            is_causal=src_is_causal,
        )
        return self.decoder(
            tgt,
            memory,
            tgt_mask=tgt_mask,
            memory_mask=memory_mask,
            tgt_key_padding_mask=tgt_key_padding_mask,
            memory_key_padding_mask=memory_key_padding_mask,
            tgt_is_causal=tgt_is_causal,
            memory_is_causal=memory_is_causal,
        )

    def _check(self, src: jax.Array, tgt: jax.Array) -> None:
        problems = []
        if src.ndim not in (2, 3) or tgt.ndim != src.ndim:
            problems.append("src and tgt must both have 3 axes, or both 2 without the batch")
        elif src.ndim == 3:
            axis = 0 if self.batch_first else 1
            if src.shape[axis] != tgt.shape[axis]:
                problems.append(f"the batch sizes (axis {axis}) of src and tgt must be equal")
        if src.shape[-1:] != (self.d_model,) or tgt.shape[-1:] != (self.d_model,):
            problems.append(f"src and tgt must have d_model={self.d_model} features (last axis)")
        if problems:
            raise ValueError(
                f"Transformer: {'; '.join(problems)}. Got src {src.shape} and tgt {tgt.shape}."
            )

    @staticmethod
    def generate_square_subsequent_mask(
        sz: int, device: Any = None, dtype: Any = None
    ) -> jax.Array:
        """Return the (sz, sz) causal mask to be added: 0 up to the diagonal, -inf above it.

        Args:
            dtype: float32 unless given; bool gives True above the diagonal.

        >>> Transformer.generate_square_subsequent_mask(2).tolist()
        [[0.0, -inf], [0.0, 0.0]]
        """
        dtype = jnp.float32 if dtype is None else dtype
        mask = jnp.triu(jnp.full((sz, sz), -jnp.inf, dtype), 1)
        return mask if device is None else jax.device_put(mask, device)


def _copies(layer: Any, number: int) -> list[Any]:
    """Copy a layer: equal weights in arrays of their own, random streams that all differ."""
    copies = [nnx.clone(layer, arrays=True, graph=True) for _ in range(number)]
    for copy in copies:
        for ours, theirs in zip(_streams(copy), _streams(layer), strict=True):
            ours.key.set_value(theirs())
    return copies


def _streams(module: Any) -> list[nnx.RngStream]:
    return [node for _, node in nnx.iter_graph(module) if isinstance(node, nnx.RngStream)]


def _draw_matrices(module: Any, rngs: nnx.Rngs) -> None:
    """Draw every parameter with more than one axis from torch's Xavier-uniform distribution."""
    seen: set[int] = set()
    for _, owner in named_modules(module):
        for _, variable in named_variables(owner):
            shape = variable.get_value().shape
            if not isinstance(variable, nnx.Param) or len(shape) < 2 or id(variable) in seen:
                continue
            seen.add(id(variable))
            bound = math.sqrt(6.0 / max(_fans(owner, shape), 1))
            dtype = variable.get_value().dtype
            variable.set_value(scaled_uniform(rngs.params(), shape, dtype, bound))


def _fans(owner: Any, shape: tuple[int, ...]) -> int:
    """Return fan_in + fan_out; torch counts them from the first two axes of its weight.

    A convolution's kernel has its channels on the last two axes here.
    """
    inner = math.prod(shape[:-2] if isinstance(owner, nnx.Conv) else shape[2:])
    channels = shape[-2:] if isinstance(owner, nnx.Conv) else shape[:2]
    return sum(channels) * inner


def _length(x: jax.Array, layer: Any) -> int:
    """Length of the sequence, for a layer that says whether it has the batch first."""
    return int(x.shape[0] if x.ndim == 2 or not layer.self_attn.batch_first else x.shape[1])


def _is_causal(mask: jax.Array | None, given: bool | None, length: int) -> bool:
    """Recognise a causal mask, unless told; one that is being traced is not looked at.

    The answer never changes a result: a mask that is recognised is replaced by itself.
    """
    if given is not None or mask is None or isinstance(mask, jax.core.Tracer):
        return given is True
    if mask.shape != (length, length):
        return False
    above = np.triu(np.ones((length, length), bool), 1)
    causal = above if mask.dtype == jnp.bool_ else np.where(above, -np.inf, 0.0)
    return bool(np.array_equal(np.asarray(mask), causal))
