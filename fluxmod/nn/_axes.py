"""Which axes differ between the frameworks, declared by every layer and model.

torch keeps the channel axis of a feature map in front of the spatial axes, Flax keeps it last.
A layer declares, for each argument and for its output, where torch has the channel axis; the
parity harness and ported models move arrays by this declaration and by nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

__all__ = ["ELEMENTWISE", "SAME", "Axes", "Channel"]


@dataclass(frozen=True, slots=True)
class Channel:
    """The axis of torch's array that is last in Flax; arrays of fewer than ``min_rank`` stay.

    >>> Channel(1).to_flax(np.zeros((2, 3, 8, 9))).shape
    (2, 8, 9, 3)
    >>> Channel(-3).to_torch(np.zeros((8, 9, 3))).shape
    (3, 8, 9)
    >>> Channel(1, min_rank=4).to_flax(np.zeros((2, 28, 28))).shape
    (2, 28, 28)
    """

    axis: int
    min_rank: int = 0

    def applies_to(self, rank: int) -> bool:
        """Whether an array of this rank has the axis and is not excluded by ``min_rank``."""
        needed = self.axis + 1 if self.axis >= 0 else -self.axis
        return rank >= max(needed, self.min_rank)

    def to_flax(self, array: np.ndarray) -> np.ndarray:
        """Move the channel axis from torch's place to the end."""
        return np.moveaxis(array, self.axis, -1) if self.applies_to(array.ndim) else array

    def to_torch(self, array: np.ndarray) -> np.ndarray:
        """Move the channel axis from the end to torch's place."""
        return np.moveaxis(array, -1, self.axis) if self.applies_to(array.ndim) else array


@dataclass(frozen=True, slots=True)
class Axes:
    """Where torch has the channel axis of each argument and of the output.

    ``inputs`` goes by position and ``keywords`` by name; what is not listed has the same order in
    both frameworks. ``output`` is one entry for all outputs, or a tuple with one per output.
    ``elementwise`` layers take any order and keep it.
    """

    inputs: tuple[Channel | None, ...] = ()
    output: Channel | None | tuple[Channel | None, ...] = None
    keywords: Mapping[str, Channel] = field(default_factory=dict)
    elementwise: bool = False

    def of_input(self, key: int | str) -> Channel | None:
        """Return the declaration for a positional (int) or keyword (str) argument."""
        if isinstance(key, str):
            return self.keywords.get(key)
        return self.inputs[key] if key < len(self.inputs) else None

    def of_output(self, index: int) -> Channel | None:
        """Return the declaration for the ``index``-th output array."""
        if isinstance(self.output, tuple):
            return self.output[index] if index < len(self.output) else None
        return self.output


SAME = Axes()
ELEMENTWISE = Axes(elementwise=True)


def chain(parts: Sequence[tuple[str, Any]]) -> Axes:
    """Axes of modules applied one after another.

    Elementwise links keep what they get. Where one link's output order is not what the next one
    expects, nothing can be said and a ValueError names the link.
    """
    first: Axes | None = None
    last: Axes | None = None
    for name, axes in parts:
        if axes.elementwise:
            continue
        if last is not None and _entry(last.output) != _entry(axes.of_input(0)):
            raise ValueError(
                f"Sequential: child {name!r} expects its input's channel axis as "
                f"{axes.of_input(0)}, and gets {last.output}. The order cannot be derived; "
                "declare it with an `axes` attribute or parity.Options(axes=...)."
            )
        first = first or axes
        last = axes
    if first is None or last is None:
        return ELEMENTWISE
    return Axes(inputs=first.inputs, output=last.output, keywords=first.keywords)


def _entry(entry: Any) -> int | None:
    """Reduce a declaration to what has to agree between neighbours."""
    entry = entry[0] if isinstance(entry, tuple) and entry else entry
    return None if entry is None else 1
