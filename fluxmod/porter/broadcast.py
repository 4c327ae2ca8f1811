"""``torch.vmap`` of a function of numbers, while torch traces: broadcasting in its place.

A trace has of a vmap what torch's interpreter does, which is no program of arrays. Masks are made
that way, ``mask(batch, head, query, key)`` within one vmap for each. Elementwise operators on
arrays with an axis for each vmap say the same, and read as one would write it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from fluxmod._errors import UnsupportedOpError

from .lower import ELEMENTWISE

__all__ = ["vmap_as_broadcasting"]

_REFUSED = (
    "torch.vmap of a function that does more than arithmetic with numbers; write it for arrays "
    "that have an axis for the batch"
)
_CASTS = {"to", "bool", "int", "long", "float", "double", "type_as"}
_MADE = {"new_ones", "new_zeros", "new_full"}
_SYMBOLS = {"and": "bitwise_and", "or": "bitwise_or", "xor": "bitwise_xor",
            "invert": "bitwise_not", "truediv": "div", "floordiv": "floor_divide",
            "mod": "remainder"}  # fmt: skip
_ASKED = {"device", "dtype", "is_cuda", "requires_grad"}


@contextmanager
def vmap_as_broadcasting() -> Iterator[None]:
    """Let ``torch.vmap`` broadcast; a function of more than numbers is refused when called."""
    with mock.patch("torch.vmap", _Mapped), mock.patch("torch.func.vmap", _Mapped):
        yield


class _Mapped:
    """What ``torch.vmap`` returns."""

    def __init__(self, func: Any, in_dims: Any = 0, out_dims: Any = 0, **options: Any) -> None:
        self.func, self.in_dims, self.out_dims = func, in_dims, out_dims

    def __call__(self, *args: Any) -> Any:
        """Call with an axis for each vmap around the function, the outermost first."""
        levels = [self]
        while isinstance(levels[-1].func, _Mapped):
            levels.append(levels[-1].func)
        sizes: list[Any] = [None] * len(levels)
        given = list(args)
        for place, level in enumerate(levels):
            axes = level.in_dims
            axes = (axes,) * len(args) if isinstance(axes, int) else tuple(axes)
            if level.out_dims != 0 or len(axes) != len(args):
                raise UnsupportedOpError(_REFUSED)
            for index, axis in enumerate(axes):
                if axis is None:
                    continue
                array = args[index]
                is_row = isinstance(array, torch.Tensor) and array.dim() == 1
                if axis != 0 or not is_row or given[index] is not array:
                    raise UnsupportedOpError(_REFUSED)
                sizes[place] = array.shape[0]
                alias = torch.ops.aten.alias.default  # one that the function has is another
                inner = len(levels) - 1 - place
                given[index] = array.reshape(-1, *[1] * inner) if inner else alias(array)
        if any(size is None for size in sizes):
            raise UnsupportedOpError(_REFUSED)
        with _Numbers([x for x, old in zip(given, args, strict=True) if x is not old]) as mode:
            out = levels[-1].func(*given)
        leaves, form = pytree.tree_flatten(out)
        if not all(isinstance(x, torch.Tensor) and mode.is_number(x) for x in leaves):
            raise UnsupportedOpError(_REFUSED)
        return pytree.tree_unflatten([x.expand(sizes) for x in leaves], form)


class _Numbers(TorchFunctionMode):
    """Checks that every operator would do the same to the numbers one by one."""

    def __init__(self, mapped: list[torch.Tensor]) -> None:
        super().__init__()
        self.mapped = {id(x): x for x in mapped}  # held, so that no other gets its identity

    def is_number(self, value: Any) -> bool:
        """Whether a value is a number to the function: a mapped array, or no array."""
        return not isinstance(value, torch.Tensor) or id(value) in self.mapped or not value.dim()

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        values = pytree.tree_leaves((args, kwargs))
        if name == "__get__":
            return self.asked(func, args)
        if name == "__getitem__":
            out = self.picked(*args)
        elif name in _MADE and args[1:2] == ((),):
            out = func(*args, **kwargs)
        elif _operator(name) in ELEMENTWISE or name in _CASTS:
            if not all(map(self.is_number, values)):
                raise UnsupportedOpError(_REFUSED)
            out = func(*args, **kwargs)
        elif not any(id(v) in self.mapped for v in values):
            return func(*args, **kwargs)
        else:
            raise UnsupportedOpError(_REFUSED)
        if not isinstance(out, torch.Tensor):
            raise UnsupportedOpError(_REFUSED)
        self.mapped[id(out)] = out
        return out

    def asked(self, func: Any, args: Any) -> Any:
        """An attribute: of a number the shape would be another."""
        name = getattr(getattr(func, "__self__", None), "__name__", "")
        if id(args[0]) in self.mapped and name not in _ASKED:
            raise UnsupportedOpError(_REFUSED)
        return func(*args)

    def picked(self, array: torch.Tensor, entries: Any) -> Any:
        """One number of an array, at a place that numbers say."""
        entries = entries if isinstance(entries, tuple) else (entries,)
        places = [isinstance(e, (int, torch.Tensor)) and not isinstance(e, bool) for e in entries]
        numbers = all(map(self.is_number, entries)) and id(array) not in self.mapped
        if not (numbers and all(places) and len(entries) == array.dim()):
            raise UnsupportedOpError(_REFUSED)
        indices = [e if isinstance(e, torch.Tensor) else torch.tensor(e) for e in entries]
        return torch.ops.aten.index.Tensor(array, indices)


def _operator(name: str) -> str:
    """ATen's name for a function or a method."""
    word = name.strip("_") if name.startswith("__") else name
    if word not in ELEMENTWISE and word not in _SYMBOLS and word[:1] == "r":
        word = word[1:]  # __radd__
    return _SYMBOLS.get(word, word)
