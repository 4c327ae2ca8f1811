"""The places of a Flax model that hold weights, under torch's names and in torch's order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from flax import nnx

from fluxmod import nn
from fluxmod._paths import join
from fluxmod.nn._stack import Place, places
from fluxmod.nn.rules import Leaf, leaves_of

__all__ = ["Slot", "slots"]


@dataclass(frozen=True, slots=True)
class Slot:
    """One weight: its torch key, its Flax path, its Variable and the rule between them.

    In a stack of equal blocks several weights of torch are one Variable; ``index`` says which entry
    of its leading axes is meant, ``stack`` is their common name, ``blocks.*.weight``.
    """

    key: str
    path: str
    leaf: Leaf
    variable: nnx.Variable[Any]
    index: tuple[int, ...] = ()
    stack: str = ""

    @property
    def place(self) -> tuple[Any, ...]:
        """What holds the weight; equal for tied ones."""
        return (id(self.variable), *self.index)

    @property
    def where(self) -> str:
        """The Flax path, with the entry that is meant."""
        return f"{self.path}[{', '.join(map(str, self.index))}]" if self.index else self.path

    @property
    def name(self) -> str:
        """The torch key; of a Variable that holds all layers of a stack, with stars for numbers."""
        return self.stack or self.key

    @property
    def is_parameter(self) -> bool:
        """Whether torch would list it under ``named_parameters``."""
        return isinstance(self.variable, nnx.Param)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape in Flax, of one layer."""
        return tuple(self.variable.get_value().shape[len(self.index) :])

    @property
    def torch_shape(self) -> tuple[int, ...]:
        """Shape in torch."""
        return self.leaf.shape_in_torch(self.shape)

    @property
    def dtype(self) -> str:
        """Name of the dtype that torch has; an int32 that stands for int64 says 'int64'."""
        return str(self.variable.get_metadata("torch_dtype", self.stored_dtype))

    @property
    def stored_dtype(self) -> str:
        """Name of the dtype that Flax holds."""
        return str(self.variable.get_value().dtype)

    def to_numpy(self) -> np.ndarray:
        """Return a copy in torch's layout and dtype."""
        array = np.asarray(jax.device_get(self.variable.get_value()))[self.index]
        return np.array(self.leaf.to_torch(array), dtype=np.dtype(self.dtype), order="C")


def slots(model: nnx.Module) -> Iterator[Slot]:
    """Yield every weight in the order of torch's ``state_dict``.

    Within a module parameters come before buffers, and both before the children. A tied weight is
    listed under each of its names, a stack layer by layer. Buffers that are not persistent and
    random state are left out.

    >>> layer = nn.Sequential(nn.Linear(2, 3, rngs=nnx.Rngs(0)))
    >>> [(s.key, s.path, s.torch_shape) for s in slots(layer)]
    [('0.weight', '0.kernel', (3, 2)), ('0.bias', '0.bias', (3,))]
    """
    for place in places(model):
        own = list(_own_slots(place))
        yield from (slot for slot in own if slot.is_parameter)
        yield from (slot for slot in own if not slot.is_parameter)


def _own_slots(place: Place) -> Iterator[Slot]:
    variables = dict(nn.named_variables(place.module))
    for leaf in leaves_of(place.module):
        variable = variables.pop(leaf.flax, None)
        if variable is not None:
            yield _slot(place, leaf, variable)
    for name, variable in variables.items():
        if variable.get_metadata("persistent", True):
            yield _slot(place, Leaf(name, name), variable)


def _slot(place: Place, leaf: Leaf, variable: nnx.Variable[Any]) -> Slot:
    key, path = join(place.key, leaf.torch), join(place.path, leaf.flax)
    stack = join(place.stack, leaf.torch) if place.index else ""
    return Slot(key, path, leaf, variable, place.index, stack)
