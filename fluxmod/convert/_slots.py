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
from fluxmod.nn.rules import Leaf, leaves_of

__all__ = ["Slot", "slots"]


@dataclass(frozen=True, slots=True)
class Slot:
    """One weight: its torch key, its Flax path, its Variable and the rule between them."""

    key: str
    path: str
    leaf: Leaf
    variable: nnx.Variable[Any]

    @property
    def is_parameter(self) -> bool:
        """Whether torch would list it under ``named_parameters``."""
        return isinstance(self.variable, nnx.Param)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape in Flax."""
        return tuple(self.variable.get_value().shape)

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
        array = np.asarray(jax.device_get(self.variable.get_value()))
        return np.array(self.leaf.to_torch(array), dtype=np.dtype(self.dtype), order="C")


def slots(model: nnx.Module) -> Iterator[Slot]:
    """Yield every weight in the order of torch's ``state_dict``.

    Within a module parameters come before buffers, and both before the children. A tied weight is
    listed under each of its names. Buffers that are not persistent and random state are left out.

    >>> layer = nn.Sequential(nn.Linear(2, 3, rngs=nnx.Rngs(0)))
    >>> [(s.key, s.path, s.torch_shape) for s in slots(layer)]
    [('0.weight', '0.kernel', (3, 2)), ('0.bias', '0.bias', (3,))]
    """
    for path, module in nn.named_modules(model, remove_duplicate=False):
        own = list(_own_slots(path, module))
        yield from (slot for slot in own if slot.is_parameter)
        yield from (slot for slot in own if not slot.is_parameter)


def _own_slots(path: str, module: nnx.Module) -> Iterator[Slot]:
    variables = dict(nn.named_variables(module))
    for leaf in leaves_of(module):
        variable = variables.pop(leaf.flax, None)
        if variable is not None:
            yield _slot(path, leaf, variable)
    for name, variable in variables.items():
        if variable.get_metadata("persistent", True):
            yield _slot(path, Leaf(name, name), variable)


def _slot(path: str, leaf: Leaf, variable: nnx.Variable[Any]) -> Slot:
    return Slot(join(path, leaf.torch), join(path, leaf.flax), leaf, variable)
