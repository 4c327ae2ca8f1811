"""Calling a ported model as torch's is called: torch's layouts in, torch's layouts out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import nnx

from fluxmod import nn
from fluxmod.convert._source import as_numpy

from .ir import Value, map_tree
from .port import of

__all__ = ["Input", "feed", "inputs"]


@dataclass(frozen=True, slots=True)
class Input:
    """How one argument is given: its traced shape in Flax, its dtype, and what torch has.

    ``channel`` is torch's axis that is last in Flax, None where the order is the same.
    """

    name: str
    shape: tuple[int | str, ...]
    dtype: str
    channel: int | None

    def __str__(self) -> str:
        sizes = ", ".join(map(str, self.shape))
        note = "" if self.channel is None else f"; torch's axis {self.channel} comes last"
        return f"{self.name}: {self.dtype}[{sizes}]{note}"


def inputs(model: nnx.Module) -> tuple[Input, ...]:
    """What a ported model takes; text names in a shape are sizes that are free.

    >>> from fluxmod import porter
    >>> ported = porter.port(torch.nn.Conv2d(3, 8, 3), torch.randn(2, 3, 9, 7))
    >>> print(*porter.inputs(ported))
    input: float32[N, 9, 7, 3]; torch's axis 1 comes last
    """
    return tuple(Input(*row) for row in of(model).inputs)


def feed(model: nnx.Module, *args: Any, **kwargs: Any) -> Any:
    """Call a ported model with torch tensors or numpy arrays in torch's layout.

    Compiled on the first call for each structure, shapes, dtypes and mode; the weights are
    arguments of the compiled function. What the call changes (running statistics, random streams)
    is written back, as torch's call does.

    Returns:
        numpy arrays in torch's layout, dtypes and structure: tuple, dict, dataclass or named tuple.

    >>> from fluxmod import porter
    >>> net = torch.nn.Conv2d(3, 8, 3)
    >>> porter.feed(porter.port(net, torch.randn(2, 3, 9, 7)), torch.randn(5, 3, 9, 7)).shape
    (5, 8, 7, 5)
    """
    info = of(model)
    _same_settings(info.settings, kwargs)
    kwargs = {key: value for key, value in kwargs.items() if key not in info.settings}
    axes = getattr(model, "axes", nn.SAME)
    given = tuple(_in(tree, axes.of_input(i)) for i, tree in enumerate(args))
    named = {key: _in(tree, axes.of_input(key)) for key, tree in kwargs.items()}
    leaves, treedef = jax.tree.flatten((given, named))
    arrays = [leaf for leaf in leaves if isinstance(leaf, jax.Array)]
    static = tuple(None if isinstance(leaf, jax.Array) else leaf for leaf in leaves)
    graphdef, state = nnx.split(model, graph=True)
    try:
        hash((graphdef, treedef, static))
        run: Any = _compiled
    except TypeError:  # a static attribute that cannot be a key of the cache
        run = _run
    flat, state = run(graphdef, treedef, static, state, arrays)
    nnx.update(model, state)
    dtypes = info.out_dtypes if len(info.out_dtypes) == len(flat) else (None,) * len(flat)
    moved = iter(
        [
            _out(value, axes.of_output(i), dtype)
            for i, (value, dtype) in enumerate(zip(flat, dtypes, strict=True))
        ]
    )
    result = map_tree(lambda leaf: next(moved) if isinstance(leaf, Value) else leaf, info.out_tree)
    if info.out_type is None:
        return result
    return info.out_type(**result) if isinstance(result, dict) else info.out_type(*result)


def _same_settings(settings: dict[str, Any], kwargs: dict[str, Any]) -> None:
    """Refuse what the source has baked in otherwise: ``use_cache=True`` of a port without."""
    for key in settings.keys() & kwargs.keys():
        if kwargs[key] != settings[key]:
            raise ValueError(
                f"porter.feed: the model was ported with {key}={settings[key]!r}, "
                f"got {kwargs[key]!r}. Port it again with that."
            )


def _run(graphdef: Any, treedef: Any, static: Any, state: Any, arrays: list[jax.Array]) -> Any:
    rest = iter(arrays)
    leaves = [next(rest) if leaf is None else leaf for leaf in static]
    model = nnx.merge(graphdef, state)
    args, kwargs = jax.tree.unflatten(treedef, leaves)
    out = model(*args, **kwargs)
    return list(_arrays(out)), nnx.state(model, graph=True)


def _arrays(tree: Any) -> Iterator[jax.Array]:
    """The arrays of an output in the order in which torch gives them: JAX sorts a dict's keys."""
    if isinstance(tree, jax.Array):
        yield tree
    elif isinstance(tree, (dict, tuple, list)):
        for branch in tree.values() if isinstance(tree, dict) else tree:
            yield from _arrays(branch)


_compiled = jax.jit(_run, static_argnums=(0, 1, 2))


def _in(tree: Any, entry: Any) -> Any:
    if isinstance(tree, torch.Tensor):
        tree = as_numpy(tree)
    if isinstance(tree, (np.ndarray, jax.Array)):
        array = np.asarray(tree)
        return jnp.asarray(array if entry is None else entry.to_flax(array))
    if isinstance(tree, Mapping):
        return {key: _in(value, entry) for key, value in tree.items()}
    if isinstance(tree, (tuple, list)):
        return type(tree)(_in(value, entry) for value in tree)
    return tree


def _out(value: Any, entry: Any, dtype: str | None) -> Any:
    array = np.asarray(value)
    array = array if entry is None else entry.to_torch(array)
    if dtype is not None and np.issubdtype(array.dtype, np.integer):
        return array.astype(dtype)
    return array
