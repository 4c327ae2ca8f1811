"""Arguments and results of either framework as flat, named lists of numpy arrays."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

__all__ = ["is_mask", "leaves", "map_leaves"]


def leaves(value: Any, name: str = "output") -> Iterator[tuple[str, Any]]:
    """Yield ``(name, array)`` for every array in nested tuples, lists, mappings and dataclasses.

    ``None``, plain Python values and what names a device or a dtype are left out.

    >>> import numpy as np
    >>> [n for n, _ in leaves((np.ones(1), {"weights": np.ones(2), "none": None}))]
    ['output[0]', "output[1]['weights']"]
    """
    if value is None or isinstance(value, (bool, int, float, str, np.dtype)) or _of_torch(value):
        return
    if is_array(value):
        yield name, value
        return
    for key, child in _children(value):
        yield from leaves(child, f"{name}[{key!r}]")


def map_leaves(value: Any, fn: Callable[[Any], Any]) -> Any:
    """Apply ``fn`` to every array of a nested structure of tuples, lists and mappings."""
    if is_array(value):
        return fn(value)
    if isinstance(value, tuple):
        items = [map_leaves(v, fn) for v in value]
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
    if isinstance(value, list):
        return [map_leaves(v, fn) for v in value]
    if isinstance(value, Mapping):
        return {k: map_leaves(v, fn) for k, v in value.items()}
    return value


def is_array(value: Any) -> bool:
    """Whether a value is an array of any framework."""
    return hasattr(value, "shape") and hasattr(value, "dtype")


def is_mask(array: np.ndarray) -> bool:
    """Whether an array says by 0 and -inf what is hidden.

    Nobody trains one, and torch drops a causal mask where it knows the order: its gradient says
    nothing.
    """
    hidden = array == -np.inf
    return bool(hidden.any()) and bool((hidden | (array == 0)).all())


def _of_torch(value: Any) -> bool:
    """Whether a value is ``torch.device``, ``torch.dtype`` and the like: a setting, no data."""
    kind = type(value)
    return kind.__module__ == "torch" and kind.__name__ in ("device", "dtype", "layout")


def _children(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, Mapping):
        yield from value.items()
    elif isinstance(value, (tuple, list)):
        yield from enumerate(value)
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield field.name, getattr(value, field.name)
    else:
        raise TypeError(
            f"parity: cannot compare a {type(value).__name__}. A model's arguments and results "
            "may be arrays, and tuples, lists, mappings and dataclasses of arrays."
        )
