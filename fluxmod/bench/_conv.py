"""Convolutions alone: XLA's own, the formulation that is chosen, and torch.

XLA's own is compiled as XLA does by itself, the chosen one as ``fluxmod.jit`` does.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

from fluxmod.nn import compiler_options
from fluxmod.nn._lowering.conv import FORMULATIONS, ConvShape, formulation

__all__ = ["SHAPES", "Shape", "convolutions"]

LIMIT = 1.0
"""Seconds: a variant that takes longer is timed once."""


@dataclass(frozen=True)
class Shape:
    """A square convolution of a batch of square maps."""

    batch: int
    size: int
    inputs: int
    outputs: int
    kernel: int
    stride: int = 1
    padding: int = 0
    dilation: int = 1
    groups: int = 1

    def static(self) -> ConvShape:
        """What a formulation is chosen by."""
        return ConvShape(
            spatial=(self.size,) * 2,
            kernel=(self.kernel,) * 2,
            inputs=self.inputs // self.groups,
            outputs=self.outputs // self.groups,
            strides=(self.stride,) * 2,
            padding=((self.padding,) * 2,) * 2,
            dilation=(self.dilation,) * 2,
            groups=self.groups,
            batch=self.batch,
        )

    def __str__(self) -> str:
        extra = {"stride": (self.stride, 1), "dilation": (self.dilation, 1)}
        notes = [f", {name} {value}" for name, (value, usual) in extra.items() if value != usual]
        if self.groups > 1:
            notes.append(f", {self.groups} groups")
        channels = f"{self.inputs} to {self.outputs} channels"
        maps = f"{self.batch} x {self.size} x {self.size}"
        return f"{self.kernel}x{self.kernel}{''.join(notes)}, {channels}, {maps}"


SHAPES = (
    Shape(8, 56, 64, 256, 1),
    Shape(8, 28, 256, 512, 1, stride=2),
    Shape(4, 224, 3, 384, 16, stride=16),
    Shape(8, 56, 64, 64, 3, padding=1),
    Shape(8, 28, 128, 128, 3, padding=1),
    Shape(8, 14, 256, 256, 3, padding=1),
    Shape(8, 7, 512, 512, 3, padding=1),
    Shape(16, 2, 512, 512, 3, padding=1),
    Shape(8, 56, 64, 128, 3, stride=2, padding=1),
    Shape(8, 28, 64, 64, 3, padding=2, dilation=2),
    Shape(4, 112, 3, 64, 7, stride=2, padding=3),
    Shape(4, 112, 3, 32, 3, stride=2, padding=1),
    Shape(64, 28, 1, 16, 5, padding=2),
    Shape(32, 24, 20, 20, 5),
    Shape(8, 28, 192, 192, 3, padding=1, groups=192),
    Shape(8, 28, 192, 192, 3, stride=2, padding=1, groups=192),
    Shape(8, 14, 240, 240, 5, padding=2, groups=240),
    Shape(8, 28, 96, 96, 7, padding=3, groups=96),
    Shape(8, 28, 128, 128, 3, padding=1, groups=32),
    Shape(8, 7, 512, 512, 3, padding=1, groups=32),
)
"""What residual, mobile, patch and grouped networks are made of."""


def convolutions(shapes: tuple[Shape, ...] = SHAPES, *, rounds: int = 11) -> str:
    """Time every shape, forward and with both gradients, in turns; return a Markdown table.

    >>> print(convolutions((Shape(1, 4, 1, 1, 1),), rounds=2).splitlines()[0])
    | convolution | chosen | torch | torch channels_last | XLA's own | chosen |
    """
    names = ("torch", "torch channels_last", "XLA's own", "chosen")
    lines = [f"| convolution | chosen | {' | '.join(names)} |", "|---|---|" + "---|" * len(names)]
    for shape in shapes:
        chosen = formulation(shape.static(), jax.default_backend())
        calls = _calls(shape, chosen)
        times = _timed(calls, rounds)
        cells = [f"{times[name, 'f']:.2f} / {times[name, 'fb']:.2f}" for name in names]
        lines.append(f"| {shape} | {chosen} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _calls(shape: Shape, chosen: str) -> dict[tuple[str, str], Callable[[], Any]]:
    """Forward ("f") and forward with gradients ("fb") of every variant."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((shape.batch, shape.size, shape.size, shape.inputs), np.float32)
    k = shape.kernel
    kernel = rng.standard_normal((k, k, shape.inputs // shape.groups, shape.outputs), np.float32)
    calls: dict[tuple[str, str], Callable[[], Any]] = {}
    for name, memory in (
        ("torch", torch.contiguous_format),
        ("torch channels_last", torch.channels_last),
    ):
        tx = torch.from_numpy(np.moveaxis(x, -1, 1).copy()).contiguous(memory_format=memory)
        tk = torch.from_numpy(kernel.transpose(3, 2, 0, 1).copy()).contiguous(memory_format=memory)
        calls[name, "f"] = partial(_torch_forward, tx, tk, shape)
        leaves = tx.clone().requires_grad_(), tk.clone().requires_grad_()
        calls[name, "fb"] = partial(_torch_gradients, *leaves, shape)
    jx, jk = jnp.asarray(x), jnp.asarray(kernel)
    forms: Any = (("XLA's own", "direct", {}), ("chosen", chosen, compiler_options()))
    for name, form, options in forms:
        run = partial(_in_flax, form=form, static=shape.static())
        for job, call in (("f", run), ("fb", partial(_gradients, run))):
            compiled = jax.jit(call, compiler_options=options)
            calls[name, job] = partial(_waiting, compiled, jx, jk)
    return calls


def _torch_forward(x: torch.Tensor, kernel: torch.Tensor, s: Shape) -> torch.Tensor:
    with torch.no_grad():
        return torch.conv2d(x, kernel, None, s.stride, s.padding, s.dilation, s.groups)


def _torch_gradients(x: torch.Tensor, kernel: torch.Tensor, s: Shape) -> None:
    out = torch.conv2d(x, kernel, None, s.stride, s.padding, s.dilation, s.groups)
    torch.autograd.grad(out, (x, kernel), torch.ones_like(out))


def _in_flax(x: jax.Array, kernel: jax.Array, *, form: str, static: ConvShape) -> jax.Array:
    return FORMULATIONS[form](x, kernel, static, None)


def _gradients(run: Callable[..., jax.Array], x: jax.Array, kernel: jax.Array) -> Any:
    out, pull = jax.vjp(run, x, kernel)
    return pull(jnp.ones_like(out))


def _waiting(run: Callable[..., Any], *args: Any) -> None:
    jax.block_until_ready(run(*args))


def _timed(calls: dict[Any, Callable[[], Any]], rounds: int) -> dict[Any, float]:
    """Medians in milliseconds; what is very slow is timed once."""
    times: dict[Any, list[float]] = {}
    for key, call in calls.items():
        call()
        start = time.perf_counter()
        call()
        times[key] = [time.perf_counter() - start]
    for _ in range(rounds):
        for key, call in calls.items():
            if times[key][0] < LIMIT:
                start = time.perf_counter()
                call()
                times[key].append(time.perf_counter() - start)
    return {key: statistics.median(values) * 1e3 for key, values in times.items()}
