"""What torch's source says at the place where an operator was called.

The graph decides what is computed; the source only proposes names and expressions for numbers,
and a proposal counts only if it has the value that the graph has.
"""

from __future__ import annotations

import ast
import functools
import linecache
import math
import operator
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import CodeType, FrameType
from typing import Any

import torch

from .ir import Size

__all__ = ["Numbers", "call_site", "function_of", "source_at"]

_BINARY: dict[type, tuple[str, Callable[[Any, Any], Any]]] = {
    ast.Add: ("+", operator.add),
    ast.Sub: ("-", operator.sub),
    ast.Mult: ("*", operator.mul),
    ast.FloorDiv: ("//", operator.floordiv),
    ast.Div: ("/", operator.truediv),
    ast.Mod: ("%", operator.mod),
    ast.Pow: ("**", operator.pow),
}
_CALLS: dict[str, Any] = {
    "int": int,
    "float": float,
    "max": max,
    "min": min,
    "round": round,
    "abs": abs,
}


@functools.lru_cache(maxsize=256)
def _module_ast(filename: str) -> dict[tuple[int, int, int, int], ast.AST]:
    """Every expression and function of a file by its position."""
    text = "".join(linecache.getlines(filename))
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return {}
    table: dict[tuple[int, int, int, int], ast.AST] = {}
    for node in ast.walk(tree):
        if isinstance(node, (ast.expr, ast.stmt)):
            place = (node.lineno, node.end_lineno or 0, node.col_offset, node.end_col_offset or 0)
            if place not in table or isinstance(node, ast.expr):
                table[place] = node
    return table


@functools.lru_cache(maxsize=1024)
def function_of(code: CodeType) -> ast.FunctionDef | None:
    """The definition that a code object was compiled from."""
    for node in _module_ast(code.co_filename).values():
        if isinstance(node, ast.FunctionDef) and node.name == code.co_name:
            first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            if first == code.co_firstlineno or node.lineno == code.co_firstlineno:
                return node
    return None


@functools.lru_cache(maxsize=1024)
def _positions(code: CodeType) -> list[Any]:
    return list(code.co_positions())


def source_at(frame: FrameType) -> ast.AST | None:
    """The expression that a frame is evaluating."""
    place = _positions(frame.f_code)[frame.f_lasti // 2]
    if None in place:
        return None
    lines = _module_ast(frame.f_code.co_filename)
    return lines.get(place)


def call_site(node: ast.AST | None) -> tuple[list[ast.expr], dict[str, ast.expr]]:
    """The argument expressions of a call or operator, by position (``self`` first) and by name."""
    if isinstance(node, ast.BinOp):
        return [node.left, node.right], {}
    if isinstance(node, ast.AugAssign):
        return [node.target, node.value], {}
    if isinstance(node, ast.Call):
        keywords = {k.arg: k.value for k in node.keywords if k.arg}
        arguments = list(node.args)
        return arguments, keywords
    if isinstance(node, ast.Subscript):
        return [node.value, node.slice], {}
    return [], {}


class Numbers:
    """Evaluates expressions over sizes, attributes and literals in live frames.

    Local numbers are followed to the statement that set them, while the tensors they were read
    from still have the names they had there.
    """

    def __init__(
        self,
        to_value: Callable[[torch.Tensor], Any],
        unseen: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._to_value = to_value
        self._unseen = unseen  # what is read to find words is not read by forward
        self.module: Any = None  # whose call is running: only its attributes are numbers
        self._locals: dict[int, dict[str, Size]] = {}
        self._done: dict[int, set[int]] = {}
        self._keep: dict[int, FrameType] = {}

    def sync(self, frame: FrameType) -> None:
        """Take note of the numbers that a frame has set since the last look."""
        function = function_of(frame.f_code)
        if function is None:
            return
        key = id(frame)
        self._keep[key] = frame
        known = self._locals.setdefault(key, {})
        done = self._done.setdefault(key, set())
        for statement in _assignments(frame.f_code):
            ended = (statement.end_lineno or 0) < frame.f_lineno
            if id(statement) in done or not ended:
                continue
            done.add(id(statement))
            for target in statement.targets:
                self._bind(frame, target, statement.value, known)

    def _bind(
        self, frame: FrameType, target: ast.expr, value: ast.expr, known: dict[str, Size]
    ) -> None:
        if isinstance(target, ast.Name):
            local = frame.f_locals.get(target.id)
            if isinstance(local, (int, float, torch.SymInt, tuple, torch.Size, torch.dtype)):
                found = self.evaluate(frame, value)
                if found is not None and _same(_plain(found), local):
                    if isinstance(found, Size) and found.form[0] == "dim":
                        found = Size(found.value, (*found.form[:3], target.id))
                    if isinstance(found, Size) and found.form[0] == "dtype":
                        found = Size(found.value, (*found.form[:2], target.id))
                    known[target.id] = found
                else:
                    known.pop(target.id, None)
        elif isinstance(target, ast.Tuple):
            found = self.evaluate(frame, value)
            starred = any(isinstance(t, ast.Starred) for t in target.elts)
            if isinstance(found, tuple) and not starred and len(found) == len(target.elts):
                for each, part in zip(target.elts, found, strict=True):
                    if isinstance(each, ast.Name) and isinstance(part, Size):
                        if part.form[0] == "dim":
                            part = Size(part.value, (*part.form[:3], each.id))
                        if _same(part.value, frame.f_locals.get(each.id)):
                            known[each.id] = part

    def evaluate(self, frame: FrameType, node: ast.AST) -> Any:
        """Return a Size, a tuple of them, or None where the source does not say."""
        try:
            with self._unseen():
                return self._evaluate(frame, node)
        except (TypeError, ValueError, ZeroDivisionError, AttributeError, IndexError, KeyError):
            return None

    def _evaluate(self, frame: FrameType, node: ast.AST) -> Any:
        if isinstance(node, ast.Constant):
            return Size(node.value, ("lit",)) if type(node.value) in (int, float) else None
        if isinstance(node, ast.Name):
            known = self._locals.get(id(frame), {}).get(node.id)
            return self._parameter(frame, node.id) if known is None else known
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            operand = self._evaluate(frame, node.operand)
            if operand.form == ("lit",):
                return Size(-operand.value, ("lit",))
            return Size(-operand.value, ("neg", operand))
        if isinstance(node, ast.BinOp):
            return self._binary(frame, node)
        if isinstance(node, (ast.Tuple, ast.List)):
            return self._sequence(frame, node.elts)
        if isinstance(node, ast.Attribute):
            return self._attribute(frame, node)
        if isinstance(node, ast.Subscript):
            return self._subscript(frame, node)
        if isinstance(node, ast.Call):
            return self._call(frame, node)
        return None

    def _parameter(self, frame: FrameType, name: str) -> Any:
        """A number, or several, that a helper was given: the expression that its caller has."""
        function, caller = function_of(frame.f_code), frame.f_back
        if function is None or caller is None or caller.f_code is frame.f_code:
            return None
        names = [a.arg for a in function.args.args]
        given = frame.f_locals.get(name)
        several = isinstance(given, (tuple, list))
        if name not in names or any(type(x) not in (int, float) for x in _items(given)):
            return None
        site = source_at(caller)
        wrapped = False
        while _passes_on(site) and caller.f_back is not None:  # a decorator's wrapper
            caller, wrapped = caller.f_back, True
            site = source_at(caller)
        if not isinstance(site, ast.Call) or not (wrapped or _called(site) == function.name):
            return None
        if isinstance(site.func, ast.Attribute) and names[0] == "self":
            names = names[1:]
        place = names.index(name)
        keywords = {k.arg: k.value for k in site.keywords}
        expression = site.args[place] if place < len(site.args) else keywords.get(name)
        if expression is None or any(isinstance(a, ast.Starred) for a in site.args):
            return None
        found = self.evaluate(caller, expression)
        if found is None or isinstance(found, tuple) != several or None in _items(found):
            return None
        return found if _same(_plain(found), _items(given) if several else given) else None

    def _sequence(self, frame: FrameType, elements: list[ast.expr]) -> Any:
        parts: list[Any] = []
        for element in elements:
            if isinstance(element, ast.Starred):
                inner = self._evaluate(frame, element.value)
                if not isinstance(inner, tuple):
                    return None
                parts += inner
            else:
                parts.append(self._evaluate(frame, element))
        return tuple(parts)

    def _binary(self, frame: FrameType, node: ast.BinOp) -> Any:
        left, right = self._evaluate(frame, node.left), self._evaluate(frame, node.right)
        if isinstance(left, tuple) and isinstance(right, tuple) and isinstance(node.op, ast.Add):
            return left + right
        if not isinstance(left, Size) or not isinstance(right, Size):
            return None
        symbol, function = _BINARY[type(node.op)]
        return Size(function(left.value, right.value), ("op", symbol, left, right))

    def _attribute(self, frame: FrameType, node: ast.Attribute) -> Any:
        owner = node.value
        if node.attr == "dtype" and (value := self._tensor(frame, owner)) is not None:
            return Size(value[0].dtype, ("dtype", value[1]))
        if node.attr == "shape" and (value := self._tensor(frame, owner)) is not None:
            return self._shape(*value)
        path = [node.attr]
        while isinstance(owner, ast.Attribute):
            path.insert(0, owner.attr)
            owner = owner.value
        if not isinstance(owner, ast.Name) or owner.id != "self":
            return None
        found = frame.f_locals["self"]
        if getattr(found, "__dict__", None) is not vars(self.module):  # torch may wrap a module
            return None
        for name in path:
            found = getattr(found, name)
        if type(found) in (int, float) and len(path) <= 2:
            return Size(found, ("attr", ".".join(path)))
        if isinstance(found, (tuple, list)) and all(type(x) in (int, float) for x in found):
            dotted = ".".join(path)
            return tuple(Size(x, ("attr", f"{dotted}[{i}]")) for i, x in enumerate(found))
        return None

    def _subscript(self, frame: FrameType, node: ast.Subscript) -> Any:
        parts = self._evaluate(frame, node.value)
        if not isinstance(parts, tuple):
            return None
        if isinstance(node.slice, ast.Slice):
            bounds = [node.slice.lower, node.slice.upper, node.slice.step]
            ends = [None if b is None else self._evaluate(frame, b).value for b in bounds]
            return parts[slice(*ends)]
        return parts[self._evaluate(frame, node.slice).value]

    def _call(self, frame: FrameType, node: ast.Call) -> Any:
        function = node.func
        if isinstance(function, ast.Attribute) and function.attr == "size":
            value = self._tensor(frame, function.value)
            if value is None:
                return None
            shape = self._shape(*value)
            return shape[self._evaluate(frame, node.args[0]).value] if node.args else shape
        if isinstance(function, ast.Attribute) and function.attr == "dim" and not node.args:
            value = self._tensor(frame, function.value)
            return None if value is None else Size(len(value[0].shape), ("lit",))
        operands = [self._evaluate(frame, a) for a in node.args]
        if not all(isinstance(o, Size) for o in operands) or node.keywords:
            return None
        if isinstance(function, ast.Name) and function.id in _CALLS:
            value = _CALLS[function.id](*(o.value for o in operands))
            return Size(value, ("call", function.id, *operands))
        name = ast.unparse(function)
        if name in ("math.sqrt", "math.log", "math.floor", "math.ceil"):
            value = getattr(math, name[5:])(*(o.value for o in operands))
            return Size(value, ("call", name, *operands))
        return None

    def _tensor(self, frame: FrameType, node: ast.expr) -> Any:
        """Return a live tensor and its value, for a plain name."""
        if not isinstance(node, ast.Name):
            return None
        tensor = frame.f_locals.get(node.id)
        if not isinstance(tensor, torch.Tensor):
            return None
        value = self._to_value(tensor)
        return None if value is None else (tensor, value)

    def dtype_of(self, frame: FrameType, node: ast.AST) -> Size | None:
        """The dtype of a live tensor, for ``y.type_as(x)``."""
        value = self._tensor(frame, node) if isinstance(node, ast.expr) else None
        return None if value is None else Size(value[0].dtype, ("dtype", value[1]))

    def _shape(self, tensor: torch.Tensor, value: Any) -> tuple[Size, ...]:
        return tuple(Size(size, ("dim", value, axis)) for axis, size in enumerate(tensor.shape))


def _passes_on(site: Any) -> bool:
    """Whether a call hands through all it was given: ``f(*args, **kwargs)``."""
    if not isinstance(site, ast.Call) or len(site.args) != 1 or len(site.keywords) != 1:
        return False
    return isinstance(site.args[0], ast.Starred) and site.keywords[0].arg is None


def _called(site: ast.Call) -> str:
    """The last part of a called function's name."""
    return ast.unparse(site.func).rpartition(".")[2]


@functools.lru_cache(maxsize=1024)
def _assignments(code: CodeType) -> list[ast.Assign]:
    function = function_of(code)
    found = [] if function is None else [n for n in ast.walk(function) if isinstance(n, ast.Assign)]
    return sorted(found, key=lambda n: n.lineno)


def _items(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, (tuple, list)) else (value,)


def _plain(found: Any) -> Any:
    if isinstance(found, tuple):
        return tuple(None if part is None else _plain(part) for part in found)
    return found.value


def _same(a: Any, b: Any) -> bool:
    """Whether two numbers are equal, without adding guards on symbolic sizes."""
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and all(_same(x, y) for x, y in zip(a, b, strict=True))
    symbolic = [isinstance(x, torch.SymInt) for x in (a, b)]
    if all(symbolic):
        return str(a) == str(b)
    return not any(symbolic) and type(a) is type(b) and a == b
