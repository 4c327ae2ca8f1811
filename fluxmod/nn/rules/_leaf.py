"""One weight rule: a torch name, a Flax name, and how the axes are permuted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Leaf", "Rule"]


@dataclass(frozen=True, slots=True)
class Leaf:
    """How one torch tensor is stored in Flax; the way back is derived.

    Args:
        torch: name in torch's ``state_dict``.
        flax: attribute name of the Variable.
        perm: how Flax reads torch's axes; ``None`` keeps them.

    >>> leaf = Leaf("weight", "kernel", perm=(2, 3, 1, 0))
    >>> leaf.to_flax(np.zeros((8, 3, 5, 5))).shape
    (5, 5, 3, 8)
    >>> leaf.to_torch(leaf.to_flax(np.zeros((8, 3, 5, 5)))).shape
    (8, 3, 5, 5)
    """

    torch: str
    flax: str
    perm: tuple[int, ...] | None = None

    def to_flax(self, array: Any) -> Any:
        """Permute torch's axes into Flax's order."""
        return array if self.perm is None else array.transpose(self.perm)

    def to_torch(self, array: Any) -> Any:
        """Permute Flax's axes back into torch's order."""
        return array if self.perm is None else array.transpose(self.inverse)

    @property
    def inverse(self) -> tuple[int, ...]:
        """The permutation that undoes ``perm``."""
        return tuple(int(i) for i in np.argsort(self.perm or ()))

    def shape_in_torch(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the torch shape of a leaf that has ``shape`` in Flax."""
        return shape if self.perm is None else tuple(shape[i] for i in self.inverse)


Rule = tuple[Leaf, ...] | Callable[[Any], tuple[Leaf, ...]]
"""The leaves of a class in torch's order, or a function of the layer where arguments decide."""
