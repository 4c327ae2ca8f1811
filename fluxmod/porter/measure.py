"""Numbers and sizes as text: the source's expressions where they are true, literals elsewhere."""

from __future__ import annotations

import math
from typing import Any

import torch

from .ir import Op, Param, Size, Value
from .partition import same_number
from .provenance import source_of
from .words import Body, NeedsName, Unported, plain, rate, safe, size_forms

__all__ = ["Measures"]


class Measures:
    """The part of a writer that knows about numbers, dtypes and modes."""

    body: Body
    text: dict[int, str]
    inline: dict[int, str]
    named: set[Any]
    symbols: dict[str, str]
    bound: dict[str, Value]
    unpacked: dict[tuple[int, int], str]
    named_sizes: dict[str, str | int]  # what each unpacked name stands for
    values: list[Value]
    dtypes: dict[int, str]
    last: dict[int, int]
    now: int
    call: Any
    consts: Any

    def __call__(self, argument: Any) -> str:
        """The text of any argument."""
        raise NotImplementedError

    def literal(self, number: Any) -> str:
        """A number; it may turn out to differ between calls of one class."""
        if isinstance(number, float) and not math.isfinite(number):
            if math.isnan(number):
                return "jnp.nan"
            return "jnp.inf" if number > 0 else "-jnp.inf"
        mark = f"_number_{len(self.body.literals)}_"
        self.body.literals.append((mark, number))
        return mark

    def number(self, op: Op, index: int, name: str = "", *, default: Any = None) -> str:
        """A number among an operator's arguments, as the source writes it if that is true.

        Args:
            default: the operator's, which a trace leaves out.
        """
        given = dict(enumerate(op.args))
        actual = op.kwargs.get(name, default) if name else given.get(index, default)
        if isinstance(actual, Value):
            return self(actual)
        value = actual.value if isinstance(actual, Size) else actual
        hints = op.hints or {}
        positional = hints.get("args") or []
        named = hints.get("kwargs") or {}
        others = [named.get(name)] if name else list(named.values())
        proposals = positional[index : index + 1] + others
        for hint in proposals:
            if isinstance(hint, Size) and hint.form != ("lit",) and same_number(hint.value, value):
                if (text := self.try_size(hint)) is not None:
                    return text
        return self(actual)

    def sizes(self, op: Op, index: int = 1) -> list[str]:
        """The sizes that an operator was given, as the source writes them where that is true."""
        actual = list(op.args[index])
        hints = (op.hints or {}).get("sizes") or [None] * len(actual)
        texts = []
        for size, hint in zip(actual, hints, strict=True):
            value = size.value if isinstance(size, Size) else size
            text = "-1" if type(value) is int and value == -1 else None
            if text is None and isinstance(hint, Size) and same_number(hint.value, value):
                text = self.try_size(hint)
            texts.append(text or self.size(size))
        return texts

    def listed_sizes(self, op: Op, index: int, count: int) -> list[str] | None:
        """The source's expressions for the first of several sizes, None for plain numbers."""
        hints = list((op.hints or {}).get("args") or [])[index : index + 1]
        given = (
            hints[0] if hints else next(iter(((op.hints or {}).get("kwargs") or {}).values()), 0)
        )
        actual = op.args[index]
        if not isinstance(given, tuple) or not isinstance(actual, (list, tuple)):
            return None
        if all(isinstance(hint, Size) and hint.form == ("lit",) for hint in given):
            return None
        found = []
        for hint, size in list(zip(given, actual, strict=False))[:count]:
            value = size.value if isinstance(size, Size) else size
            if not isinstance(hint, Size) or not same_number(hint.value, value):
                return None
            text = self.try_size(hint)
            if text is None:
                return None
            found.append(text)
        return found

    def try_size(self, size: Size) -> str | None:
        """A size as text, or None where it is not in scope."""
        try:
            return self.size(size, strict=True)
        except Unported:
            return None

    def size(self, size: Any, *, strict: bool = False) -> str:
        """A size as an expression of things that are in scope here."""
        if not isinstance(size, Size):
            return self.literal(size) if type(size) in (int, float) else plain(size)
        kind = size.form[0]
        if kind == "dim":
            _, value, axis, *name = size.form
            if (id(value), axis) in self.unpacked:
                return self.unpacked[id(value), axis]
            if id(value) in self.text:
                return self.dimension(value, axis, name)
            if value.symbols[axis]:
                if isinstance(size.value, torch.SymInt) and not value.symbols[axis].isidentifier():
                    return self.symbolic(size.value.node.expr)
                return self.symbol(value.symbols[axis], value)
            if strict:
                raise Unported("size")
            if id(self.call.module) in self.consts.of_sizes:
                return self.size_of_source(value, axis) or self.literal(int(size.value))
            return self.literal(int(size.value))
        if kind == "dtype":
            raise Unported("a dtype is no size")
        if kind == "attr":
            path = size.form[1]
            self.body.attrs[path] = size.value
            return f"self.{path}"
        if kind == "op":
            _, symbol, left, right = size.form
            if symbol == "//" and (whole := self.divided_back(size)) is not None:
                return whole
            sides = [self.size(side, strict=strict) for side in (left, right)]
            return f"({sides[0]} {symbol} {sides[1]})"
        if kind == "neg":
            return f"-{self.size(size.form[1], strict=strict)}"
        if kind == "call":
            _, function, *operands = size.form
            if function.startswith("math."):
                self.body.attrs["math"] = None
            return f"{function}({', '.join(self.size(o, strict=strict) for o in operands)})"
        if isinstance(size.value, torch.SymInt):
            return self.symbolic(size.value.node.expr)
        return self.literal(size.value)

    def divided_back(self, size: Size) -> str | None:
        """``4 * n // 4`` as the array in scope has it, None if it is more than a size of that."""
        if not isinstance(size.value, torch.SymInt) or not size.value.node.expr.is_Symbol:
            return None
        return self.in_scope(str(size.value.node.expr))

    def size_of_source(self, value: Value, axis: int) -> str | None:
        """The size of an array that has no name, as that of one in scope which it is made from."""
        while id(value) not in self.text:
            step = source_of(value, axis)
            if step is None:
                return None
            value, axis = step
        return self.dimension(value, axis, [])

    def dimension(self, value: Value, axis: int, name: list[str]) -> str:
        """One axis of an array in scope; sizes that the source unpacks are unpacked at the top."""
        place = value.layout.index(axis)
        named = self.dims.get(id(value), {})
        if len(named) > 1 or (named and name and self.counts.get((id(value), axis), 0) > 1):
            self.unpack(value, named)
            if (id(value), axis) in self.unpacked:
                return self.unpacked[id(value), axis]
        return (
            f"{self.text[id(value)]}.shape[{place if place < value.rank - 1 or place < 2 else -1}]"
        )

    def unpack(self, value: Value, named: dict[int, str]) -> None:
        """Write ``B, N, C = x.shape``."""
        names = {axis: safe(n) for axis, n in named.items()}
        taken = [n for n in names.values() if n in self.bound and self.live(self.bound[n])]
        if taken or len(set(names.values())) != len(names):
            return
        sizes = {n: value.symbols[axis] or value.shape[axis] for axis, n in names.items()}
        if any(self.named_sizes.get(n, size) != size for n, size in sizes.items()):
            return  # a helper's name for another size
        text = self.text[id(value)]
        if sizes.keys() <= self.named_sizes.keys():
            pass
        elif len(names) == 1:
            axis, name = next(iter(names.items()))
            self.body.lines.append(f"{name} = {text}.shape[{value.layout.index(axis)}]")
        else:
            targets = ", ".join(names.get(axis, "_") for axis in value.layout)
            self.body.lines.append(f"{targets} = {text}.shape")
        self.named_sizes.update(sizes)
        for axis, name in names.items():
            self.unpacked[id(value), axis] = name

    def live(self, value: Value) -> bool:
        """Whether a value is still needed."""
        return self.last.get(id(value), -1) >= self.now

    def symbol(self, text: str, owner: Value | None) -> str:
        """A symbolic size, found on an array in scope."""
        if (found := self.in_scope(text)) is not None:
            return found
        if owner is not None and id(owner) in self.inline and id(owner) not in self.named:
            self.named.add(id(owner))
            raise NeedsName
        if text not in self.named and any(text in v.symbols for v in self.values):
            self.named.add(text)
            raise NeedsName
        raise Unported(f"the size {text} is on no array in scope")

    def in_scope(self, text: str) -> str | None:
        """A symbolic size as that of an array which has a name here."""
        if text in self.symbols:
            return self.symbols[text]
        for value in self.values:
            if text in value.symbols and id(value) in self.text:
                if self.bound.get(self.text[id(value)]) in (value, None):
                    return self.dimension(value, value.symbols.index(text), [])
        return None

    def symbolic(self, form: Any) -> str:
        """An expression over symbolic sizes: ``-s0``, ``2 * s1 + 1``."""
        if form.is_Integer:
            return self.literal(int(form))
        try:
            return self.symbol(str(form), None)
        except Unported:
            if not form.args:
                raise
        parts = [str(a) if a.is_Integer else self.symbolic(a) for a in form.args]
        if form.is_Mul and form.args[0] == -1:
            return f"-{' * '.join(parts[1:])}"
        if form.is_Mul or form.is_Add:
            return f"({(' * ' if form.is_Mul else ' + ').join(parts)})"
        if type(form).__name__ == "FloorDiv":
            return f"({parts[0]} // {parts[1]})"
        if type(form).__name__ in ("Max", "Min"):
            return f"{type(form).__name__.lower()}({', '.join(parts)})"
        raise Unported(f"the size {form} is on no array in scope")

    @property
    def dims(self) -> dict[int, dict[int, str]]:
        """The names that the source has for axes, per array."""
        if not hasattr(self, "_dims"):
            self._dims: dict[int, dict[int, str]] = {}
            self.counts: dict[tuple[int, int], int] = {}
            for item in self.call.items:
                for form in size_forms(item):
                    if form[0] == "dim":
                        key = (id(form[1]), form[2])
                        self.counts[key] = self.counts.get(key, 0) + 1
                        if len(form) > 3:
                            self._dims.setdefault(id(form[1]), {})[form[2]] = form[3]
        return self._dims

    def training(self, op: Op, index: int) -> str:
        """A mode flag: ``self.training`` where it follows the mode."""
        if op.modes is not None and op.modes[0].args[index] != op.modes[1].args[index]:
            return "self.training"
        return "True" if op.args[index] else "False"

    def dropout_p(self, op: Op, p: float) -> str | None:
        """A probability that is zero in one mode."""
        now, then = (p, p) if op.modes is None else (rate(each) for each in op.modes)
        if then == now:
            return None if not p else self(p)
        hints = (op.modes[1].hints if op.modes else {}) or {}
        for hint in [*(hints.get("kwargs") or {}).values(), *(hints.get("args") or [])]:
            if isinstance(hint, Size) and same_number(hint.value, then):
                if (text := self.try_size(hint)) is not None:
                    return f"{text} if self.training else 0.0"
        return f"{self(then)} if self.training else 0.0"

    def dtype_like(self, op: Op) -> str | None:
        """The dtype of the array that the source names in a cast."""
        hints = op.hints or {}
        for hint in [*(hints.get("args") or []), *(hints.get("kwargs") or {}).values()]:
            if isinstance(hint, Size) and hint.form[0] == "dtype" and hint.value == op.out.dtype:
                value = hint.form[1]
                if id(value) in self.dtypes:
                    return self.dtypes[id(value)]
                if id(value) in self.text or isinstance(value.producer, Param):
                    return f"{self(value).removesuffix('[...]')}.dtype"
        return None

    def like(self, op: Op) -> str | None:
        """The dtype of an array in scope that has the dtype that a cast asks for."""
        value = op.args[0]
        for other in self.values:
            if other is not value and other.dtype == op.out.dtype and id(other) in self.text:
                if self.bound.get(self.text[id(other)]) is other:
                    return f"{self.text[id(other)]}.dtype"
        return None
