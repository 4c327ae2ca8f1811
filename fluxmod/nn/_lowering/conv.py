"""Convolution over channels-last arrays: one arithmetic, several formulations.

XLA on the CPU is slow for some convolutions: measured 8 seconds for the gradient of a grouped one
where torch takes 40 ms. ``formulation`` picks another way to write the same sum from the static
shapes; ``fluxmod bench --conv`` measures such shapes. Accelerators always get
``lax.conv_general_dilated``, which their vendors' libraries serve.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
from jax import lax

from .conv_forms import TILE, as_columns, as_matmul, as_tiles, in_blocks
from .conv_shifts import by_shifts
from .tangents import with_tangents

__all__ = ["FORMULATIONS", "ConvShape", "conv_general", "formulation"]

_LETTERS = {1: "H", 2: "HW", 3: "DHW"}


@dataclass(frozen=True)
class ConvShape:
    """What a formulation is chosen by; all static.

    ``spatial`` are the input's sizes, ``kernel`` the window's, ``inputs`` and ``outputs`` the
    numbers of channels of one group, ``batch`` the number of examples.
    """

    spatial: tuple[int, ...]
    kernel: tuple[int, ...]
    inputs: int
    outputs: int
    strides: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    groups: int
    batch: int = 1

    @property
    def windows(self) -> tuple[int, ...]:
        """How many windows there are along each axis."""
        rows = zip(
            self.spatial, self.kernel, self.strides, self.padding, self.dilation, strict=True
        )
        return tuple((n + sum(pad) - d * (k - 1) - 1) // s + 1 for n, k, s, pad, d in rows)

    @property
    def is_small(self) -> bool:
        """A large dense kernel over few windows, measured in numbers of a window."""
        if self.groups > 1 or not isinstance(self.batch, int):  # symbolic in ``jax.export``
            return False
        taps = math.prod(self.kernel)
        if taps > MOST_SHIFTS or taps * self.inputs * self.outputs < LARGE_KERNEL:
            return False
        windows, length = self.batch * math.prod(self.windows), taps * self.inputs
        strided = any(stride > 1 for stride in self.strides)
        enough = 2 * length if strided else length / 12
        return windows <= enough and windows * length <= MOST_COLUMNS

    @property
    def is_single(self) -> bool:
        """One or two examples, whose windows fit the cache."""
        if self.groups > 1 or not isinstance(self.batch, int) or self.batch > 2:
            return False
        taps = math.prod(self.kernel)
        windows = self.batch * math.prod(self.windows)
        return taps <= MOST_SHIFTS and windows * taps * self.inputs <= MOST_COLUMNS

    @property
    def is_stem(self) -> bool:
        """A two-dimensional kernel from few channels to some: two neighbours fill a tile."""
        return (
            self.groups == 1
            and len(self.kernel) == 2
            and isinstance(self.spatial[-1], int)  # no symbol of ``jax.export``
            and set(self.dilation) == {1}
            and math.prod(self.kernel) * self.inputs <= FEW_NUMBERS
            and self.kernel[-1] > 1
            and 2 * self.outputs <= TILE
        )

    @property
    def is_patches(self) -> bool:
        """Windows that lie side by side, a 1x1 kernel with stride 1 among them."""
        return (
            self.groups == 1
            and self.kernel == self.strides
            and not any(map(any, self.padding))
            and (set(self.dilation) == {1} or set(self.kernel) == {1})
        )


def formulation(shape: ConvShape, platform: str) -> str:
    """Name the formulation for these shapes.

    Milliseconds on two cores, both gradients, XLA's convolution as XLA compiles it by itself
    against the chosen one with ``compiler_options``:

    ========  ==========================================  =========  ==========
    chosen    example                                     XLA        chosen
    ========  ==========================================  =========  ==========
    matmul    1x1, 64 to 256 channels, 8 x 56 x 56        54.5       12.8
    matmul    16x16 patches, 3 to 384, 4 x 224 x 224      68.9       7.5
    tiles     5x5, 1 to 16 channels, 64 x 28 x 28         7.8        2.3
    shifts    depthwise 3x3, 192 channels, 8 x 28 x 28    102        2.4
    shifts    depthwise 7x7, 96 channels, 8 x 28 x 28     116        6.2
    columns   3x3, 512 to 512 channels, 16 x 2 x 2        152        5.5
    blocks    3x3, 32 groups of 4, 8 x 28 x 28            2455       8.2
    direct    3x3, 64 to 64 channels, 8 x 56 x 56         41.0       28.0
    ========  ==========================================  =========  ==========
    """
    if platform != "cpu" or 0 in (*shape.spatial, shape.inputs, shape.outputs):
        return "direct"
    if shape.is_patches:
        return "matmul"
    if shape.is_small:
        return "columns"
    if shape.is_stem:
        return "tiles"
    if shape.is_single:
        return "single"
    if shape.groups > 1 and shape.inputs == 1 and math.prod(shape.kernel) <= MOST_SHIFTS:
        return "shifts"
    return "blocks" if shape.groups > 1 else "direct"


LARGE_KERNEL = 2**15
"""Elements of a dense kernel below which XLA's convolution is as good as any."""
FEW_NUMBERS = 32
"""Numbers of a window for which a product of tiles is faster: 3x3 of three colours are 27."""
MOST_COLUMNS = 2**22
"""Elements of the matrix of windows: a larger one leaves the cache."""
MOST_SHIFTS = 64
"""Taps of a kernel that are written out one by one: 7x7 is, a 1-D kernel of 1000 is not."""


def conv_general(
    x: jax.Array,
    kernel: jax.Array,
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    dilation: Sequence[int],
    groups: int,
    precision: Any,
) -> jax.Array:
    """Cross-correlate (N, *spatial, I) with (*k, I/groups, O); explicit padding pairs.

    Shape:
        returns (N, *spatial', O).
    """
    shape = ConvShape(
        spatial=x.shape[1:-1],
        kernel=kernel.shape[:-2],
        inputs=kernel.shape[-2],
        outputs=kernel.shape[-1] // groups,
        strides=tuple(strides),
        padding=tuple((low, high) for low, high in padding),
        dilation=tuple(dilation),
        groups=groups,
        batch=x.shape[0],
    )
    chosen = formulation(shape, jax.default_backend()) if x.dtype == kernel.dtype else "direct"
    return FORMULATIONS[chosen](x, kernel, shape, precision)


def direct(x: jax.Array, kernel: jax.Array, shape: ConvShape, precision: Any) -> jax.Array:
    """XLA's own convolution."""
    space = _LETTERS[x.ndim - 2]
    return lax.conv_general_dilated(
        x,
        kernel,
        shape.strides,
        shape.padding,
        rhs_dilation=shape.dilation,
        dimension_numbers=(f"N{space}C", f"{space}IO", f"N{space}C"),
        feature_group_count=shape.groups,
        precision=precision,
    )


single = with_tangents(direct, by_kernel=as_columns)
"""XLA's convolution, whose kernel's gradient is a product of copied windows.

XLA takes the examples for channels there, and is slow with one: 5.5 ms for 2.3 of 3x3, 128
channels, 28 x 28.
"""


def blocks(x: jax.Array, kernel: jax.Array, shape: ConvShape, precision: Any) -> jax.Array:
    """Dense convolutions over blocks of groups."""
    return in_blocks(direct, x, kernel, shape, precision)


FORMULATIONS: dict[str, Callable[[jax.Array, jax.Array, ConvShape, Any], jax.Array]] = {
    "direct": direct,
    "matmul": as_matmul,
    "columns": as_columns,
    "shifts": by_shifts,
    "tiles": as_tiles,
    "blocks": blocks,
    "single": single,
}
"""Every way to compute a convolution: ``f(x, kernel, shape, precision)``."""
