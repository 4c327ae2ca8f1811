"""Where arrays live: one device, or a mesh with split batches and perhaps split parameters."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding

__all__ = ["Placement", "Strategy", "placement"]

Strategy = Literal["data", "fsdp"]


@dataclass(frozen=True, slots=True)
class Placement:
    """A mesh and how it is used.

    Batches are split over all axes of the mesh. With ``strategy="fsdp"`` every array of parameters
    and of optimizer state is split along its largest axis that divides evenly, over the mesh axis
    named "fsdp", or over all axes where none has that name; the rest is replicated.
    """

    mesh: Mesh
    strategy: Strategy

    @property
    def replicated(self) -> NamedSharding:
        """The same everywhere."""
        return NamedSharding(self.mesh, PartitionSpec())

    def of_parameter(self, shape: tuple[int, ...]) -> NamedSharding:
        """Return where a parameter of this shape lives, and what the optimizer keeps for it."""
        if self.strategy == "data":
            return self.replicated
        names = ("fsdp",) if "fsdp" in self.mesh.axis_names else self.mesh.axis_names
        parts = math.prod(self.mesh.shape[name] for name in names)
        fitting = [axis for axis, size in enumerate(shape) if size and size % parts == 0]
        if not fitting:
            return self.replicated
        largest = max(fitting, key=lambda axis: shape[axis])
        spec: list[Any] = [None] * len(shape)
        spec[largest] = names
        return NamedSharding(self.mesh, PartitionSpec(*spec))

    def put_batch(self, batch: Any, *, chunked: bool = False) -> Any:
        """Split a batch over the mesh; of several processes, each gives its own part.

        Args:
            chunked: the first axis counts steps and the second one the items.
        """
        axis = 1 if chunked else 0
        split = NamedSharding(self.mesh, PartitionSpec(*[None] * axis, self.mesh.axis_names))
        local = self.mesh.local_mesh.size
        bad = {
            jax.tree_util.keystr(path): tuple(np.shape(leaf))
            for path, leaf in jax.tree_util.tree_leaves_with_path(batch)
            if np.ndim(leaf) > axis and np.shape(leaf)[axis] % local
        }
        if bad:
            raise ValueError(
                f"Trainer: axis {axis} of a batch must divide by the {local} devices that it is "
                f"split over, got shapes {bad}."
            )

        def put(leaf: Any) -> jax.Array:
            where = split if np.ndim(leaf) > axis else self.replicated
            return jax.make_array_from_process_local_data(where, np.asarray(leaf))

        return jax.tree.map(put, batch)


def placement(mesh: Mesh | None, strategy: str | None) -> Placement | None:
    """Return the placement that the arguments ask for; None is the default device.

    Raises:
        ValueError: an unknown strategy, or one without a mesh.
    """
    if strategy not in (None, "data", "fsdp"):
        raise ValueError(f"Trainer: strategy is 'data' or 'fsdp', got {strategy!r}.")
    if mesh is None:
        if strategy is not None:
            raise ValueError(
                f"Trainer: strategy={strategy!r} needs a mesh, for example "
                "mesh=jax.make_mesh((jax.device_count(),), ('data',))."
            )
        return None
    # XLA is to find the way between the layouts: axes of the explicit kind would ask for it here
    automatic = Mesh(mesh.devices, mesh.axis_names)
    return Placement(automatic, "fsdp" if strategy == "fsdp" else "data")


def put(value: Any, sharding: Sharding | None) -> jax.Array:
    """Copy an array to its place; it shares no memory with the one given."""
    if is_key(value):
        data = put(jax.random.key_data(value), sharding)
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(value))
    if sharding is None:
        return jnp.array(value, dtype=value.dtype, copy=True)
    if isinstance(value, jax.Array) and not value.is_fully_addressable:
        return jax.device_put(value, sharding)
    content = np.array(value)
    return jax.make_array_from_callback(content.shape, sharding, lambda index: content[index])


def is_key(value: Any) -> bool:
    """Whether an array holds typed random keys."""
    return isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key)
