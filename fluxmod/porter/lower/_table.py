"""The one table: an operator of torch's training graph to an expression."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch

from fluxmod.porter.ir import Op, Size

__all__ = ["DTYPES", "ELEMENTWISE", "TABLE", "Scope", "lower"]


class Scope(Protocol):
    """What a rule may ask the writer for. Calling it gives the text of an argument."""

    def __call__(self, argument: Any) -> str: ...
    def number(self, op: Op, index: int, name: str = "", *, default: Any = None) -> str: ...
    def sizes(self, op: Op, index: int = 1) -> list[str]: ...
    def rngs(self) -> str: ...
    def dtype_like(self, op: Op) -> str | None: ...


Rule = Callable[[Scope, Op], str]
TABLE: dict[str, Rule] = {}
"""Rules by operator name, or by name and overload where overloads differ."""

ELEMENTWISE: set[str] = set()
"""Operators that work in any order of axes and keep it."""

DTYPES = {
    torch.float32: "jnp.float32",
    torch.float64: "jnp.float64",
    torch.float16: "jnp.float16",
    torch.bfloat16: "jnp.bfloat16",
    torch.int64: "jnp.int64",
    torch.int32: "jnp.int32",
    torch.int16: "jnp.int16",
    torch.int8: "jnp.int8",
    torch.uint8: "jnp.uint8",
    torch.bool: "bool",
    torch.complex64: "jnp.complex64",
    torch.complex128: "jnp.complex128",
}


def lower(*names: str, elementwise: bool = False) -> Callable[[Rule], Rule]:
    """Register a rule for operators; a second rule for one name is an error."""

    def register(rule: Rule) -> Rule:
        for name in names:
            if name in TABLE:
                raise RuntimeError(f"{name} has two lowering rules.")
            TABLE[name] = rule
            if elementwise:
                ELEMENTWISE.add(name)
        return rule

    return register


def given(op: Op, index: int, name: str, default: Any = None) -> Any:
    """An argument by position or by name."""
    if len(op.args) > index:
        return op.args[index]
    return op.kwargs.get(name, default)


def dtype_of(op: Op) -> str:
    """The dtype that an operator was asked for, as text."""
    return DTYPES[op.out.dtype if not isinstance(op.out, (list, tuple)) else op.out[0].dtype]


def value_of(number: Any) -> Any:
    """The plain number behind a size."""
    return number.value if isinstance(number, Size) else number


def call(function: str, *arguments: str, **keywords: Any) -> str:
    """Text of a call; keywords that are None are left out."""
    named = [f"{key}={value}" for key, value in keywords.items() if value is not None]
    return f"{function}({', '.join([*(a for a in arguments if a), *named])})"


def tuple_text(parts: list[str]) -> str:
    """Text of a tuple of any length."""
    return f"({', '.join(parts)}{',' if len(parts) == 1 else ''})"


def has_no_axes(op: Op) -> bool:
    """Whether the array has no axes: torch then takes 0 and -1, and does nothing along them."""
    return not op.args[0].rank
