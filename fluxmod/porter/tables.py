"""Tables that a constructor computes and no checkpoint has, as functions that compute them.

The statements of torch's ``__init__`` (or of the method that fills the table) that lead to a table
are run again and traced like a ``forward``; what they give has to be the table that the module
holds.
"""

from __future__ import annotations

import ast
import functools
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from fluxmod._errors import PortError

from .constructors import init_of, recover

__all__ = ["Table", "Tables", "short_code"]

_NUMBER = re.compile(r"(?<![\w.])\d+(?![\w.])")

_NO_PARAMETERS: Any = {"type_params": []} if "type_params" in ast.FunctionDef._fields else {}


@dataclass(frozen=True)
class Table:
    """A function without arguments that returns the table, as lines; numbers stand as marks."""

    lines: tuple[str, ...]
    numbers: tuple[Any, ...]


def short_code(text: str) -> Table:
    """An expression for a table with its numbers as marks, so that others differ in these only."""
    numbers = [int(n) for n in _NUMBER.findall(text)]
    marks = iter(range(len(numbers)))
    marked = _NUMBER.sub(lambda _: f"_number_{next(marks)}_", text)
    return Table((f"return {marked}",), tuple(numbers))


class Tables:
    """The tables of one model and the functions written for them."""

    def __init__(
        self, root: torch.nn.Module, write: Callable[[torch.nn.Module], Any], notes: list[str]
    ) -> None:
        self.root = root
        self.write = write
        self.notes = notes
        self.functions: dict[str, list[str]] = {}
        self.known: list[tuple[type, str, torch.Tensor, Table | None]] = []

    def of(self, path: str) -> Table | None:
        """How a table is computed; equal tables of one class are looked at once."""
        owner, _, name = path.rpartition(".")
        module = self.root.get_submodule(owner)
        tensor = getattr(module, name)
        for cls, other, value, table in self.known:
            if cls is type(module) and other == name and _same(value, tensor):
                return table
        found = computed(module, name, self.write)
        self.known.append((type(module), name, tensor, found))
        return found

    def function(self, name: str, parameters: list[str], body: list[str]) -> str:
        """The name of the function with that body; a second one of a name gets a number."""
        lines = [f"def {{}}({', '.join(parameters)}) -> jax.Array:", *body]
        shown, number = f"_{name.lstrip('_')}", 2
        while self.functions.setdefault(shown, lines) != lines:
            shown = f"_{name.lstrip('_')}{number}"
            number += 1
        return shown


class _Maker(torch.nn.Module):
    """The statements that compute a table, as a module that can be traced."""

    def __init__(self, run: Callable[[], torch.Tensor]) -> None:
        super().__init__()
        self.run = run

    def forward(self) -> torch.Tensor:
        with torch.no_grad():
            return self.run()


def computed(
    module: torch.nn.Module, name: str, write: Callable[[torch.nn.Module], Any]
) -> Table | None:
    """How a module's class computes one of its tensors, None where its source does not show it.

    Args:
        module: holds the tensor.
        name: the attribute.
        write: traces a module and returns the body of its forward.
    """
    with _unchanged(module):
        return _computed(module, name, write)


@contextmanager
def _unchanged(module: torch.nn.Module) -> Iterator[None]:
    """Statements of a constructor may set more than the table; afterwards all is as it was."""
    before = dict(vars(module))
    tables = {name: dict(value) for name, value in before.items() if isinstance(value, dict)}
    try:
        yield
    finally:
        vars(module).clear()
        vars(module).update(before)
        for name, content in tables.items():
            before[name].clear()
            before[name].update(content)


def _computed(
    module: torch.nn.Module, name: str, write: Callable[[torch.nn.Module], Any]
) -> Table | None:
    want = getattr(module, name)
    for run in _candidates(module, name):
        try:
            with torch.no_grad():
                found = run()
        except Exception:  # a statement needs what the module did not keep
            continue
        if not isinstance(found, torch.Tensor) or not _same(found, want):
            continue
        try:
            body = write(_Maker(run))
        except PortError:
            continue
        numbers = tuple(number for _, number in body.literals)
        return Table(tuple(body.lines), numbers)
    return None


def _same(found: torch.Tensor, want: torch.Tensor) -> bool:
    kinds = (found.shape, found.dtype) == (want.shape, want.dtype)
    return kinds and bool(torch.equal(found, want.detach().cpu()))


def _candidates(module: torch.nn.Module, name: str) -> Iterator[Callable[[], Any]]:
    """Each place in the source of a module's class that sets the attribute."""
    for cls in type(module).__mro__:
        if cls.__module__.startswith("torch.") or cls is object:
            continue
        for function in vars(cls).values():
            if inspect.isfunction(function):
                for code in _slices(inspect.unwrap(function), name):
                    yield functools.partial(_evaluated, code, function, cls, module)


def _evaluated(code: Any, function: Any, cls: type, module: torch.nn.Module) -> Any:
    """Run a slice of a method on the finished module; arguments as far as they were kept."""
    function = inspect.unwrap(function)
    space: dict[str, Any] = {}
    given = {
        parameter.name: parameter.default
        for parameter in inspect.signature(function).parameters.values()
        if parameter.default is not inspect.Parameter.empty
    }
    given |= {k: v for k, v in recover(module, init_of(cls)).items() if "." not in k}
    names = inspect.signature(function).parameters
    exec(code, {**function.__globals__, "__class__": cls}, space)
    return space[function.__name__](module, **{k: v for k, v in given.items() if k in names})


@functools.lru_cache(maxsize=512)
def _slices(function: Any, name: str) -> tuple[Any, ...]:
    """For every statement that sets ``self.name``: the method cut down to what leads to it."""
    try:
        lines, first = inspect.getsourcelines(function)
        filename = inspect.getsourcefile(function)
        tree = ast.parse(textwrap.dedent("".join(lines)))
    except (OSError, TypeError, SyntaxError):
        return ()
    ast.increment_lineno(tree, first - 1)
    method = tree.body[0]
    if not isinstance(method, ast.FunctionDef):
        return ()
    shift = len(lines[0]) - len(lines[0].lstrip())
    for node in ast.walk(tree):
        for column in ("col_offset", "end_col_offset"):
            if hasattr(node, column):
                setattr(node, column, getattr(node, column) + shift)
    found = []
    for path, value in _settings(method.body, name):
        body = _needed(path, value)
        arguments = [a.arg for a in [*method.args.args[1:], *method.args.kwonlyargs]]
        method_ = ast.FunctionDef(
            name=method.name,
            args=ast.arguments(
                posonlyargs=[], args=[ast.arg(arg=method.args.args[0].arg)], vararg=None,
                kwonlyargs=[ast.arg(arg=a) for a in arguments],
                kw_defaults=[ast.Constant(None) for _ in arguments], kwarg=None, defaults=[],
            ),
            body=[*body, ast.copy_location(ast.Return(value), value)],
            decorator_list=[], **_NO_PARAMETERS,
        )  # fmt: skip
        ast.copy_location(method_, method)
        whole = ast.Module(body=[method_], type_ignores=[])
        found.append(compile(ast.fix_missing_locations(whole), filename or "", "exec"))
    return tuple(found)


def _settings(
    body: list[ast.stmt], name: str, before: tuple[ast.stmt, ...] = ()
) -> Iterator[tuple[tuple[ast.stmt, ...], ast.expr]]:
    """The expressions that an attribute is set to, each with the statements that ran before."""
    for index, statement in enumerate(body):
        earlier = (*before, *body[:index])
        for block in ("body", "orelse"):
            if isinstance(statement, (ast.If, ast.With)):
                yield from _settings(getattr(statement, block, []), name, earlier)
        if (value := _set_to(statement, name)) is not None:
            yield earlier, value


def _set_to(statement: ast.stmt, name: str) -> ast.expr | None:
    """What ``self.name = x``, ``register_buffer("name", x)`` or ``self.name.copy_(x)`` sets."""
    if isinstance(statement, ast.Assign):
        targets = [ast.unparse(t) for t in statement.targets]
        return statement.value if f"self.{name}" in targets else None
    call = statement.value if isinstance(statement, ast.Expr) else None
    if not isinstance(call, ast.Call) or not call.args:
        return None
    function = ast.unparse(call.func)
    if function == f"self.{name}.copy_":
        return call.args[0]
    if function.endswith("self.register_buffer"):
        words = [*call.args, *(k.value for k in call.keywords if k.arg == "tensor")]
        if isinstance(words[0], ast.Constant) and words[0].value == name and len(words) > 1:
            return words[1]
    return None


def _needed(earlier: tuple[ast.stmt, ...], value: ast.expr) -> list[ast.stmt]:
    """The statements that the names in an expression depend on, in order."""
    wanted = _read(value)
    kept: list[ast.stmt] = []
    for statement in reversed(earlier):
        if _changed(statement) & wanted:
            kept.insert(0, statement)
            wanted |= _read(statement)
    return kept


def _read(node: ast.AST) -> set[str]:
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name)} - {"self"}


def _changed(statement: ast.stmt) -> set[str]:
    """The local names that a statement sets, or changes by ``x[...] = y`` or ``x.add_(y)``."""
    found: set[str] = set()
    for node in ast.walk(statement):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        owner: Any = node
        if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store):
            while isinstance(owner, ast.Subscript):
                owner = owner.value
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if node.func.attr.endswith("_") or node.func.attr in ("append", "extend", "insert"):
                owner = node.func.value
        while isinstance(owner, ast.Subscript):
            owner = owner.value
        if isinstance(owner, ast.Name) and owner is not node:
            found.add(owner.id)
    return found
