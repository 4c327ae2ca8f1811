"""A layer and its torch twin: building both with the same random weights, calling both."""

from __future__ import annotations

import contextlib
import inspect
import math
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import nnx

from fluxmod import convert, nn


@dataclass(frozen=True)
class Ints:
    """An integer input of the given shape, drawn from [low, high)."""

    shape: tuple[int, ...]
    high: int
    low: int = 0


@dataclass(frozen=True)
class Case:
    """A torch layer, its Flax twin and what to feed them.

    Args:
        torch, flax: class or factory. The Flax one gets ``rngs`` and ``param_dtype`` when its
            signature has them.
        args, kwargs: constructor arguments of both; ``flax_args`` replaces and ``flax_kwargs``
            extends them for Flax alone.
        x: shape of the input in torch's order of axes, or a list of shapes and ``Ints``, or a
            function of a ``numpy.random.Generator`` that returns a tuple of arrays.
        call: keyword arguments of the forward call; arrays are moved like inputs.
        train: mode of both layers.
        nest: makes the call's positional arguments of the flat list of inputs, for arguments that
            are tuples.
        scale, offset: float inputs drawn from shapes are ``offset + scale * normal``.
        skip: checks that do not apply, each with its reason.
    """

    id: str
    torch: Callable[..., Any]
    flax: Callable[..., Any]
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    x: Any = ()
    call: Mapping[str, Any] = field(default_factory=dict)
    train: bool = True
    nest: Callable[[Sequence[Any]], Sequence[Any]] = tuple
    flax_args: tuple[Any, ...] | None = None
    flax_kwargs: Mapping[str, Any] = field(default_factory=dict)
    scale: float = 1.0
    offset: float = 0.0
    skip: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.id


# --- building both sides ------------------------------------------------------------------------


def generator(case: Case, draw: int = 0) -> np.random.Generator:
    return np.random.default_rng([zlib.crc32(case.id.encode()), draw])


def inputs(case: Case, dtype: str = "float64", draw: int = 0) -> tuple[np.ndarray, ...]:
    """Draw the inputs in torch's order of axes."""
    rng = generator(case, draw + 1)
    if callable(case.x):
        arrays = case.x(rng)
    else:
        specs = case.x if isinstance(case.x, list) else [case.x]
        arrays = [_draw(case, spec, rng) for spec in specs]
    return tuple(_as(np.asarray(a), dtype) for a in arrays)


def _draw(case: Case, spec: Any, rng: np.random.Generator) -> np.ndarray:
    if isinstance(spec, Ints):
        return rng.integers(spec.low, spec.high, spec.shape)
    return case.offset + case.scale * rng.standard_normal(spec)


def _as(array: np.ndarray, dtype: str) -> np.ndarray:
    """Floats in ``dtype``, always by way of float32 so that every precision sees one input."""
    if not np.issubdtype(array.dtype, np.floating):
        return array
    return array.astype(np.float32).astype(dtype, order="C")


def build(case: Case, dtype: str = "float64") -> tuple[torch.nn.Module, Any]:
    """Return torch's layer with random weights and the Flax layer with the same."""
    theirs = case.torch(*case.args, **case.kwargs)
    randomise(theirs, generator(case))
    theirs.to(getattr(torch, dtype)).train(case.train)
    with undrawn():
        ours = build_flax(case, dtype)
    convert.to_flax(theirs, ours)
    return theirs, ours


def build_flax(case: Case, dtype: str = "float64") -> Any:
    """Build the Flax layer, its own initial values kept."""
    # the signature of an nnx class is its metaclass's (*args, **kwargs)
    maker = case.flax.__init__ if isinstance(case.flax, type) else case.flax
    accepted = inspect.signature(maker).parameters
    extra = {"rngs": nnx.Rngs(0), "param_dtype": jnp.dtype(dtype)}
    extra = {k: v for k, v in extra.items() if k in accepted}
    args = case.args if case.flax_args is None else case.flax_args
    ours = case.flax(*args, **{**case.kwargs, **extra, **case.flax_kwargs})
    ours.train() if case.train else ours.eval()
    return ours


@contextlib.contextmanager
def undrawn() -> Iterator[None]:
    """Draw NaN: the values are torch's soon, and drawing others first takes most of a test."""

    def nan(key: Any, shape: tuple[int, ...], dtype: Any = float, **bounds: Any) -> jax.Array:
        return jnp.asarray(np.full(shape, np.nan, dtype))

    with mock.patch.multiple(jax.random, uniform=nan, normal=nan):
        yield


def randomise(module: torch.nn.Module, rng: np.random.Generator) -> None:
    """Draw every float weight and buffer from a normal, variances from [0.5, 1.5]."""
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if name.endswith("num_batches_tracked"):
                tensor.copy_(torch.tensor(int(rng.integers(1, 9))))
            elif tensor.is_floating_point() and bool(torch.isfinite(tensor).all()):
                shape = tuple(tensor.shape)
                fan = math.prod(shape[1:]) or 1
                draw = rng.standard_normal(shape) / math.sqrt(fan)
                draw = 0.5 + rng.random(shape) if name.endswith("var") else draw
                tensor.copy_(torch.from_numpy(np.asarray(draw, np.float32)))


# --- calling both sides -------------------------------------------------------------------------


def call_torch(module: torch.nn.Module, case: Case, arrays: Sequence[np.ndarray]) -> list[Any]:
    """Return torch's outputs as a flat list of tensors."""
    tensors = [torch.from_numpy(a.copy()) if isinstance(a, np.ndarray) else a for a in arrays]
    return flat(module(*case.nest(tensors), **torch_keywords(case)))


def torch_keywords(case: Case) -> dict[str, Any]:
    return {
        k: torch.from_numpy(v.copy()) if isinstance(v, np.ndarray) else v
        for k, v in case.call.items()
    }


def call_flax(ours: Any, case: Case, arrays: Sequence[Any]) -> list[Any]:
    """Return the Flax layer's outputs as a flat list; inputs are in Flax's order already."""
    keywords = {
        k: jnp.asarray(to_flax_axes(ours, k, v)) if isinstance(v, np.ndarray) else v
        for k, v in case.call.items()
    }
    return flat(ours(*case.nest(arrays), **keywords))


def flat(value: Any) -> list[Any]:
    """List the arrays of nested tuples, lists and dicts; None is left out."""
    if isinstance(value, Mapping):
        return [leaf for part in value.values() for leaf in flat(part)]
    if isinstance(value, (tuple, list)):
        return [leaf for part in value for leaf in flat(part)]
    return [] if value is None else [value]


def axes_of(ours: Any) -> nn.Axes:
    return getattr(ours, "axes", None) or nn.Axes()


def to_flax_axes(ours: Any, key: int | str, array: np.ndarray) -> np.ndarray:
    channel = axes_of(ours).of_input(key)
    return array if channel is None else channel.to_flax(array)


def input_to_torch_axes(ours: Any, key: int, array: Any) -> np.ndarray:
    channel = axes_of(ours).of_input(key)
    return np.asarray(array) if channel is None else channel.to_torch(np.asarray(array))


def output_to_torch_axes(ours: Any, outputs: Sequence[Any]) -> list[np.ndarray]:
    axes = axes_of(ours)
    moved = []
    for index, out in enumerate(outputs):
        channel = axes.of_output(index)
        moved.append(np.asarray(out) if channel is None else channel.to_torch(np.asarray(out)))
    return moved


def flax_inputs(ours: Any, arrays: Sequence[np.ndarray]) -> list[jax.Array]:
    return [jnp.asarray(to_flax_axes(ours, i, a)) for i, a in enumerate(arrays)]
