"""Stacks: equal blocks that are one module whose arrays have an axis of layers in front.

``nnx.vmap`` builds a stack, ``nnx.scan`` runs it. Only the module that holds one knows what it is,
so it says so: ``stacked = ("blocks",)``. Everything that speaks torch's names reads it there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax
from flax import nnx

from fluxmod._paths import join

from ._module import named_children, named_modules, named_variables

__all__ = ["Place", "named_layers", "places"]


@dataclass(frozen=True, slots=True)
class Place:
    """A module under one of its torch paths.

    ``index`` says which layer of each stack around it is meant, the outermost first; ``stack`` is
    the torch path with stars in place of those numbers.
    """

    key: str
    path: str
    module: nnx.Module
    index: tuple[int, ...] = ()
    stack: str = ""


def places(model: nnx.Module) -> Iterator[Place]:
    """Yield every module under each of its torch paths, parents first, each layer of a stack.

    A stack at ``blocks`` has torch's ``blocks.0``, ``blocks.1`` and so on; one whose own name is a
    number, ``layers.2``, has ``layers.2``, ``layers.3`` and so on.

    Raises:
        ValueError: the arrays of a stack have axes of different sizes in front, or none.
    """
    yield from _walk(model, sliced=False)


def named_layers(model: nnx.Module) -> Iterator[tuple[str, nnx.Module]]:
    """Yield ``(torch path, module)`` as ``named_modules`` does; a layer of a stack is a copy.

    >>> from fluxmod import nn
    >>> class Net(nn.Module):
    ...     stacked = ("blocks",)
    ...     def __init__(self, *, rngs):
    ...         @nnx.split_rngs(splits=3)
    ...         @nnx.vmap
    ...         def make(rngs):
    ...             return nn.Linear(4, 4, rngs=rngs)
    ...         self.blocks = make(rngs)
    >>> [(path, getattr(m, "kernel", None) is not None) for path, m in
    ...  named_layers(Net(rngs=nnx.Rngs(0)))]
    [('', False), ('blocks.0', True), ('blocks.1', True), ('blocks.2', True)]
    """
    for place in _walk(model, sliced=True):
        yield place.key, place.module


def declared(module: nnx.Module) -> tuple[str, ...]:
    """The paths below a module at which it holds stacks."""
    found = getattr(module, "stacked", ())
    return found if isinstance(found, tuple) else ()


def depth_of(stack: nnx.Module, path: str, axis: int = 0) -> int:
    """How many layers a stack has: the size of that axis of each of its arrays."""
    shapes = {
        join(inner, name): variable.get_value().shape
        for inner, module in named_modules(stack)
        for name, variable in named_variables(module)
    }
    sizes = {shape[axis] if len(shape) > axis else None for shape in shapes.values()}
    if len(sizes) == 1 and (size := sizes.pop()) is not None:
        return int(size)
    raise ValueError(
        f"{path} is declared as a stack, so axis {axis} of each of its arrays has one entry per "
        f"layer; got {shapes or 'no array'}. Build it with nnx.vmap, or take it out of `stacked`."
    )


def _walk(model: nnx.Module, *, sliced: bool) -> Iterator[Place]:
    """Every place; with ``sliced`` the modules of a stack are copies of its layers."""

    def walk(place: Place, stacks: frozenset[str], above: frozenset[int]) -> Iterator[Place]:
        node = place.module
        if id(node) in above:
            return
        holds = any(join(place.path, name) in stacks for name, _ in named_children(node))
        if not (sliced and holds):  # a Sequential cannot call a stack that another module runs
            yield place
        above = above | {id(node)}
        stacks = stacks | {join(place.path, name) for name in declared(node)}
        for name, child in named_children(node):
            key, path, stack = (join(start, name) for start in (place.key, place.path, place.stack))
            if path not in stacks:
                yield from walk(Place(key, path, child, place.index, stack), stacks, above)
                continue
            first = 0
            if name.isdecimal():
                key, stack, first = place.key, place.stack, int(name)
            for layer in range(depth_of(child, path, 0 if sliced else len(place.index))):
                inner = Place(
                    join(key, str(first + layer)), path,
                    layer_of(child, layer) if sliced else child,
                    (*place.index, layer), join(stack, "*"),
                )  # fmt: skip
                yield from walk(inner, stacks, above)

    yield from walk(Place("", "", model), frozenset(), frozenset())


def layer_of(stack: nnx.Module, index: int) -> nnx.Module:
    """A copy of one layer of a stack."""

    def one(array: Any) -> Any:
        if isinstance(array, jax.ShapeDtypeStruct):
            return jax.ShapeDtypeStruct(array.shape[1:], array.dtype)
        return array[index]

    graphdef, state = nnx.split(stack, graph=True)
    layer: nnx.Module = nnx.merge(graphdef, jax.tree.map(one, state))
    return layer
