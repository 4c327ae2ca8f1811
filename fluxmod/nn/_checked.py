"""Checked mode: what torch raises for values, which compiled code cannot, is raised afterwards.

An index is a value: while a function is traced nobody knows it. Outside compiled code such a value
is looked at and refused at once; inside ``checked`` the test is compiled into the function; in any
other compiled code the result is NaN, or what the function documents.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.experimental import checkify

__all__ = ["check_indices", "checked", "concrete"]

_checking: ContextVar[bool] = ContextVar("fluxmod_checking", default=False)


def concrete(x: Any) -> np.ndarray | None:
    """The values, where they are known: not while a function is being traced."""
    return None if isinstance(x, jax.core.Tracer) else np.asarray(x)


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function, or a model, so that out-of-range indices raise as they do in torch.

    Costs one test per lookup and a wait for the result; for debugging and for data from outside.
    Modules among the arguments are updated as by ``nnx.jit``; when an error is raised they are as
    they were before.

    Raises:
        IndexError: an index or label is outside its range, with its value.

    >>> from fluxmod import nn
    >>> table = nn.Embedding(10, 3, rngs=nnx.Rngs(0))
    >>> checked(table)(jnp.array([1, 9])).shape
    (2, 3)
    >>> checked(table)(jnp.array([1, 10]))
    Traceback (most recent call last):
    ...
    IndexError: embedding: indices must lie in [0, 10), got 10.
    """
    if isinstance(function, nnx.Module):
        model = function
        call = checked(lambda model, *args, **kwargs: model(*args, **kwargs))
        return functools.partial(call, model)

    def pure(static: _Static, graphdef: Any, state: Any, arrays: list[Any]) -> tuple[Any, Any]:
        modules = nnx.merge(graphdef, state, copy=True)
        args, kwargs = static.filled(modules, arrays)
        with _on():
            out = function(*args, **kwargs)
        return out, nnx.split(modules, graph=True)[1]

    compiled = jax.jit(checkify.checkify(pure, errors=checkify.user_checks), static_argnums=(0, 1))

    @functools.wraps(function)
    def call_checked(*args: Any, **kwargs: Any) -> Any:
        static, modules, arrays = _Static.of((args, kwargs))
        graphdef, state = nnx.split(modules, graph=True)
        error, (out, after) = compiled(static, graphdef, state, arrays)
        if (message := error.get()) is not None:
            raise IndexError(message.partition(" (`check` failed)")[0])
        nnx.update(modules, after)
        return out

    return call_checked


@dataclass(frozen=True)
class _Static:
    """What of the arguments is neither a module nor an array; the places of those are marked."""

    structure: Any
    leaves: tuple[Any, ...]

    @classmethod
    def of(cls, arguments: Any) -> tuple[_Static, tuple[nnx.Module, ...], list[Any]]:
        """Take arguments apart."""
        leaves, structure = jax.tree.flatten(arguments, lambda v: isinstance(v, nnx.Module))
        modules = tuple(leaf for leaf in leaves if isinstance(leaf, nnx.Module))
        arrays = [leaf for leaf in leaves if isinstance(leaf, (jax.Array, np.ndarray))]
        marks = tuple(
            _MODULE
            if isinstance(v, nnx.Module)
            else _ARRAY
            if isinstance(v, (jax.Array, np.ndarray))
            else v
            for v in leaves
        )
        return cls(structure, marks), modules, arrays

    def filled(self, modules: Any, arrays: Any) -> Any:
        """Put them together again."""
        some, others = iter(modules), iter(arrays)
        leaves = [
            next(some) if v is _MODULE else next(others) if v is _ARRAY else v for v in self.leaves
        ]
        return jax.tree.unflatten(self.structure, leaves)


_MODULE, _ARRAY = object(), object()


@contextmanager
def _on() -> Iterator[None]:
    token = _checking.set(True)
    try:
        yield
    finally:
        _checking.reset(token)


def check_indices(
    index: jax.Array, size: int, who: str, what: str = "indices", *, ignore: int | None = None
) -> None:
    """Refuse integers outside [0, size), wherever their values can be known.

    Args:
        ignore: a value that is allowed besides.

    Raises:
        IndexError: at once outside compiled code; after the call inside ``checked``.
    """
    besides = "" if ignore is None else f" or be ignore_index={ignore}"
    rule = f"{who}: {what} must lie in [0, {size}){besides}, got"
    values = concrete(index)
    if values is not None:
        if (bad := values[_outside(values, size, ignore)]).size:
            found = [int(v) for v in np.unique(bad)[::-1]]
            shown = ", ".join(map(str, found[:8])) + (", ..." if len(found) > 8 else "")
            share = "" if values.size == 1 else f" ({bad.size} of {values.size})"
            raise IndexError(f"{rule} {shown}{share}.")
    elif _checking.get() and index.size:
        wrong = _outside(index, size, ignore)
        first = jnp.argmax(wrong.reshape(-1))
        checkify.check(~wrong.any(), f"{rule} {{value}}.", value=index.reshape(-1)[first])


def _outside(index: Any, size: int, ignore: int | None) -> Any:
    wrong = (index < 0) | (index >= size)
    return wrong if ignore is None else wrong & (index != ignore)
