"""Linear, Bilinear, Flatten's neighbours: layers that are one affine map."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn import dtypes

from fluxmod.nn import functional as F

from ._check import check_floating
from ._init import fan_in_uniform, scaled_uniform
from ._module import Module

__all__ = ["Bilinear", "Linear"]


class Linear(Module, nnx.Linear):
    """Apply ``y = x @ kernel + bias``; the twin of ``torch.nn.Linear`` and an ``nnx.Linear``.

    Shape:
        x: (*, in_features); returns (*, out_features).

    Args:
        rngs: source of the 'params' key; torch's U(+-1/sqrt(in_features)) is used for both leaves.

    Differs from torch: ``kernel`` is (in_features, out_features), the transpose of ``weight``.

    >>> layer = Linear(3, 5, rngs=nnx.Rngs(0))
    >>> layer.kernel.shape, layer.bias.shape
    ((3, 5), (5,))

    Source: torch.nn.Linear, PyTorch 2.13 documentation.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        precision: Any = None,
        rngs: nnx.Rngs,
    ) -> None:
        def init(key: Any, shape: tuple[int, ...], dtype: Any, *_: Any) -> jax.Array:
            return fan_in_uniform(key, shape, dtype, in_features)

        super().__init__(
            in_features,
            out_features,
            use_bias=bias,
            dtype=dtype,
            param_dtype=param_dtype,
            precision=precision,
            kernel_init=init,
            bias_init=init,
            rngs=rngs,
        )

    def __call__(self, input: jax.Array) -> jax.Array:  # type: ignore[override]  # torch's name
        check_floating(input, "Linear")
        bias = None if self.bias is None else self.bias[...]
        input, kernel, bias = dtypes.promote_dtype(
            (input, self.kernel[...], bias), dtype=self.dtype
        )
        return F.linear(input, kernel, bias, precision=self.precision)

    def extra_repr(self) -> str:
        """Return the sizes as torch prints them."""
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"bias={self.bias is not None}"
        )


class Bilinear(Module):
    """Apply ``y = x1^T kernel x2 + bias``; the twin of ``torch.nn.Bilinear``.

    Shape:
        x1: (*, in1_features), x2: (*, in2_features); returns (*, out_features).

    Differs from torch: none; ``kernel`` has torch's shape (out, in1, in2).

    >>> layer = Bilinear(3, 4, 5, rngs=nnx.Rngs(0))
    >>> layer(jnp.ones((2, 3)), jnp.ones((2, 4))).shape
    (2, 5)

    Source: torch.nn.Bilinear, PyTorch 2.13 documentation.
    """

    def __init__(
        self,
        in1_features: int,
        in2_features: int,
        out_features: int,
        bias: bool = True,
        *,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        precision: Any = None,
        rngs: nnx.Rngs,
    ) -> None:
        if in1_features <= 0:
            raise ValueError(f"Bilinear: in1_features must be > 0, got {in1_features}.")
        bound = 1.0 / math.sqrt(in1_features)
        shape = (out_features, in1_features, in2_features)
        self.in1_features = in1_features
        self.in2_features = in2_features
        self.out_features = out_features
        self.dtype = dtype
        self.param_dtype = param_dtype
        self.precision = precision
        self.kernel = nnx.Param(scaled_uniform(rngs.params(), shape, param_dtype, bound))
        self.bias = nnx.data(None)
        if bias:
            self.bias = nnx.Param(
                scaled_uniform(rngs.params(), (out_features,), param_dtype, bound)
            )

    def __call__(self, input1: jax.Array, input2: jax.Array) -> jax.Array:
        check_floating(input1, "Bilinear")
        bias = None if self.bias is None else self.bias[...]
        input1, input2, kernel, bias = dtypes.promote_dtype(
            (input1, input2, self.kernel[...], bias), dtype=self.dtype
        )
        return F.bilinear(input1, input2, kernel, bias, precision=self.precision)

    def extra_repr(self) -> str:
        """Return the sizes as torch prints them."""
        return (
            f"in1_features={self.in1_features}, in2_features={self.in2_features}, "
            f"out_features={self.out_features}, bias={self.bias is not None}"
        )
