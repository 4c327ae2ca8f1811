"""What torch's ``__init__`` says about the numbers that a module was built with.

The source proposes an expression for every argument; it is taken only if it has the right value
for every instance of the class.
"""

from __future__ import annotations

import ast
import functools
import inspect
import math
import textwrap
from dataclasses import dataclass
from typing import Any

import torch

__all__ = ["ANY", "Init", "Unknown", "init_of"]

_OPERATORS: dict[type, Any] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.FloorDiv: lambda a, b: a // b,
    ast.Div: lambda a, b: a / b,
    ast.Mod: lambda a, b: a % b,
    ast.Pow: lambda a, b: a**b,
}
_FUNCTIONS: dict[str, Any] = {
    "int": int, "float": float, "max": max, "min": min, "round": round, "abs": abs, "bool": bool,
    "tuple": tuple,
}  # fmt: skip


_RECURRENT = ("input_size", "hidden_size", "num_layers")


class Unknown(Exception):
    """An expression that cannot be evaluated here."""


class _Any:
    """The value of an argument that is not used: it equals every other."""


ANY = _Any()


def _constructor(cls: Any) -> Any:
    return cls.__init__


@dataclass(frozen=True)
class Entry:
    """An element of a list that is filled step by step, and the condition under which it is."""

    test: ast.expr | None
    value: ast.expr


class Init:
    """The statements of one class's ``__init__``."""

    def __init__(self, cls: type) -> None:
        self.cls = cls
        self.parameters: dict[str, inspect.Parameter] = {}
        self.attributes: dict[str, ast.expr] = {}
        self.locals: dict[str, ast.expr] = {}
        self.fallbacks: dict[str, ast.expr] = {}  # ``a = a or b``: what a is when not given
        self.conditions: dict[str, tuple[ast.expr, ast.expr]] = {}  # attributes set under an ``if``
        self.lists: dict[str, list[Entry]] = {}  # lists that are filled step by step
        self.base: ast.Call | None = None  # ``super().__init__(...)``
        try:
            function = inspect.unwrap(_constructor(cls))
            parsed = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
            self.parameters = dict(list(inspect.signature(function).parameters.items())[1:])
        except (OSError, TypeError, SyntaxError, ValueError, IndentationError):
            return
        self.lists = _lists(parsed)
        counts: dict[str, int] = {}
        for node in ast.walk(parsed):
            if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("super("):
                self.base = node
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "self.register_buffer":
                if len(node.args) > 1 and isinstance(node.args[0], ast.Constant):
                    self.attributes.setdefault(str(node.args[0].value), node.args[1])
            if isinstance(node, ast.AnnAssign) and node.value is not None:
                targets: list[ast.expr] = [node.target]
            elif isinstance(node, ast.Assign):
                targets = node.targets
            else:
                continue
            for target, value in _pairs(targets, node.value):
                if isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name):
                    if target.value.id == "self":
                        self.attributes.setdefault(target.attr, value)
                        if isinstance(value, ast.IfExp):
                            self.conditions[target.attr] = (value.test, value.body)
                elif isinstance(target, ast.Name):
                    counts[target.id] = counts.get(target.id, 0) + 1
                    self.locals[target.id] = value
        for node in ast.walk(parsed):
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                name = node.targets[0].id
                if name in self.parameters and isinstance(node.value, ast.BoolOp):
                    self.fallbacks[name] = node.value.values[-1]
            if isinstance(node, ast.If):
                self.conditions.update(_conditional(node))
            if isinstance(node, ast.If) and len(node.body) == 1:
                inner = node.body[0]
                if isinstance(inner, ast.Assign) and isinstance(inner.targets[0], ast.Name):
                    if inner.targets[0].id in self.parameters:
                        self.fallbacks[inner.targets[0].id] = inner.value
        for name, count in counts.items():
            if count > 1 or name in self.parameters:
                self.locals.pop(name, None)

    def of_attribute(self, name: str) -> ast.expr | None:
        """The expression that an attribute was set to."""
        return self.attributes.get(name)


def _lists(function: Any) -> dict[str, list[Entry]]:
    """Lists that ``append``, ``extend`` and ``+=`` fill, at most under one ``if``."""
    found: dict[str, list[Entry]] = {}
    spoiled: set[str] = set()  # by what is not understood
    for statement in function.body:
        inner, test, other = [statement], None, []
        if isinstance(statement, ast.If):
            inner, test, other = statement.body, statement.test, statement.orelse
        for each in other:
            spoiled |= _names(each)
        for each in inner:
            name, values, starts = _added(each)
            if values is None or (starts and (test is not None or name in found)):
                spoiled |= _names(each)
            elif starts or name in found:
                found.setdefault(name, []).extend(Entry(test, value) for value in values)
    return {name: entries for name, entries in found.items() if name not in spoiled}


def _names(node: ast.AST) -> set[str]:
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}


def _added(statement: ast.stmt) -> tuple[str, list[ast.expr] | None, bool]:
    """The list that a statement adds to, what it adds, and whether it makes the list.

    None for what it adds, where that is not understood.
    """
    target: ast.expr | None = None
    value: ast.expr | None = None
    starts = False
    if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
        target, value, starts = statement.targets[0], statement.value, True
    elif isinstance(statement, ast.AnnAssign):
        target, value, starts = statement.target, statement.value, True
    elif isinstance(statement, ast.AugAssign) and isinstance(statement.op, ast.Add):
        target, value = statement.target, statement.value
    elif isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        function = statement.value.func
        if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name):
            target, given = function.value, statement.value.args
            if function.attr == "append":
                value = ast.List(given)
            elif function.attr == "extend" and len(given) == 1:
                value = given[0]
    elif hasattr(statement, "body"):  # a loop, a ``with``: it may do anything
        return "", None, False
    if not isinstance(target, ast.Name):
        return "", [], False  # nothing that concerns a list of this function
    if not isinstance(value, ast.List) or any(isinstance(e, ast.Starred) for e in value.elts):
        return target.id, None, starts
    return target.id, value.elts, starts


def _conditional(node: ast.If) -> dict[str, tuple[ast.expr, ast.expr]]:
    """Attributes that one ``if`` sets to a call: its condition and the call."""
    found: dict[str, tuple[ast.expr, ast.expr]] = {}
    for statement in node.body:
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Call):
            target = statement.targets[0]
            if isinstance(target, ast.Attribute) and ast.unparse(target.value) == "self":
                found[target.attr] = (node.test, statement.value)
    return found


def _pairs(targets: list[ast.expr], value: ast.expr | None) -> list[tuple[ast.expr, ast.expr]]:
    """Each target with what it is set to; ``a, b = x, y`` is two."""
    found: list[tuple[ast.expr, ast.expr]] = []
    if value is None:
        return found
    for target in targets:
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
            found += zip(target.elts, value.elts, strict=False)
        else:
            found.append((target, value))
    return found


@functools.lru_cache(maxsize=512)
def init_of(cls: type) -> Init:
    """The parsed ``__init__`` of a class."""
    return Init(cls)


def followed(node: ast.expr | None, init: Init, cls: Any) -> ast.expr | None:
    """The call that builds a ``cls``: ``node`` itself, or what the helper that it calls returns."""
    for _ in range(4):
        if not isinstance(node, ast.Call):
            return None
        name = ast.unparse(node.func).rpartition(".")[2]
        if name == cls.__name__ or name in init.parameters or name in init.locals:
            return node
        if isinstance(node.func, ast.Attribute) and ast.unparse(node.func).startswith("self."):
            return node if not inspect.isfunction(getattr(init.cls, name, None)) else None
        space = getattr(inspect.unwrap(_constructor(init.cls)), "__globals__", {})
        helper = space.get(name)
        if inspect.isclass(helper):
            return node if issubclass(cls, helper) else None
        if not inspect.isfunction(helper):
            return None
        node = _inlined(node, helper)
    return None


def _inlined(call: ast.Call, helper: Any) -> ast.expr | None:
    """The expression that a one-statement helper returns, its arguments put in."""
    try:
        parsed: Any = ast.parse(textwrap.dedent(inspect.getsource(helper))).body[0]
        signature = inspect.signature(helper)
        bound = signature.bind(*call.args, **{k.arg: k.value for k in call.keywords if k.arg})
    except (OSError, TypeError, SyntaxError, ValueError):
        return None
    statements = [s for s in parsed.body if not isinstance(s, ast.Expr)]
    if len(statements) != 1 or not isinstance(statements[0], ast.Return):
        return None
    table = dict(bound.arguments)
    for name, parameter in signature.parameters.items():
        if name not in table and isinstance(parameter.default, (int, float, bool, str)):
            table[name] = ast.Constant(parameter.default)

    class Put(ast.NodeTransformer):
        def visit_Name(self, n: ast.Name) -> Any:
            return table.get(n.id, n)

    value = statements[0].value
    return None if value is None else Put().visit(value)


def argument(node: ast.expr | None, function: Any, name: str) -> ast.expr | None:
    """The expression for one argument in a call of ``function``."""
    if not isinstance(node, ast.Call):
        return None
    if any(isinstance(a, ast.Starred) for a in node.args) or any(
        k.arg is None for k in node.keywords
    ):
        return None
    try:
        bound = inspect.signature(function).bind(
            None, *node.args, **{k.arg: k.value for k in node.keywords if k.arg}
        )
    except (TypeError, ValueError):
        return None
    found = bound.arguments.get(name, bound.arguments.get("kwargs", {}).get(name))
    if found is None and name in _RECURRENT:  # torch's signature is (*args, **kwargs)
        given = bound.arguments.get("args", ())
        place = _RECURRENT.index(name)
        found = given[place] if place < len(given) else None
    return found if isinstance(found, ast.expr) else None


def element(node: ast.expr | None, index: int, key: str) -> ast.expr | None:
    """The expression of one child in ``Sequential(a, b)``, a list, a dict or a loop."""
    if not isinstance(node, ast.Call):
        return None
    arguments: list[ast.expr] = list(node.args)
    if len(arguments) == 1 and not key.isdigit():
        inner = arguments[0]
        if isinstance(inner, ast.Call) and not inner.args:
            return next((k.value for k in inner.keywords if k.arg == key), None)
        if isinstance(inner, ast.Dict):
            pairs = zip(inner.keys, inner.values, strict=True)
            return next(
                (v for k, v in pairs if isinstance(k, ast.Constant) and k.value == key), None
            )
    if len(arguments) == 1 and isinstance(arguments[0], ast.Starred):
        arguments = [arguments[0].value]
    if len(arguments) == 1 and isinstance(arguments[0], (ast.ListComp, ast.GeneratorExp)):
        return arguments[0].elt
    if len(arguments) == 1 and isinstance(arguments[0], (ast.List, ast.Tuple)):
        arguments = list(arguments[0].elts)
    return arguments[index] if index < len(arguments) else None


def repetitions(node: ast.expr | None) -> ast.expr | None:
    """The number of rounds of a loop that fills a list."""
    if not isinstance(node, ast.Call):
        return None
    arguments: list[ast.expr] = list(node.args)
    if len(arguments) == 1 and isinstance(arguments[0], ast.Starred):
        arguments = [arguments[0].value]
    if len(arguments) != 1 or not isinstance(arguments[0], (ast.ListComp, ast.GeneratorExp)):
        return None
    source = arguments[0].generators[0].iter
    if isinstance(source, ast.Call) and isinstance(source.func, ast.Name):
        if source.func.id == "range" and len(source.args) == 1:
            return source.args[0]
    return None


def evaluate(node: ast.AST, env: dict[str, Any], init: Init) -> Any:
    """The value of an expression over constructor arguments and class constants."""

    def run(n: ast.AST) -> Any:
        if isinstance(n, ast.Constant):
            return n.value
        if isinstance(n, ast.Name):
            if n.id in env:
                return env[n.id]
            if n.id in init.locals:
                return run(init.locals[n.id])
            raise Unknown
        if isinstance(n, ast.Attribute):
            return attribute(n)
        if isinstance(n, ast.BinOp) and type(n.op) in _OPERATORS:
            return _OPERATORS[type(n.op)](run(n.left), run(n.right))
        if isinstance(n, ast.UnaryOp):
            operand = run(n.operand)
            if isinstance(n.op, ast.USub):
                return -operand
            if isinstance(n.op, ast.Not):
                return not operand
        if isinstance(n, (ast.Tuple, ast.List)):
            return tuple(run(e) for e in n.elts)
        if isinstance(n, ast.IfExp):
            return run(n.body) if run(n.test) else run(n.orelse)
        if isinstance(n, ast.Compare) and len(n.ops) == 1:
            return compare(n)
        if isinstance(n, ast.BoolOp):
            value: Any = None
            for each in n.values:
                value = run(each)
                if bool(value) == isinstance(n.op, ast.Or):
                    return value
            return value
        if isinstance(n, ast.Subscript):
            return run(n.value)[run(n.slice)]
        if isinstance(n, ast.Call) and isinstance(n.func, ast.Name) and n.func.id in _FUNCTIONS:
            return _FUNCTIONS[n.func.id](*(run(a) for a in n.args))
        if isinstance(n, ast.Call) and ast.unparse(n.func) == "math.sqrt":
            return math.sqrt(run(n.args[0]))
        raise Unknown

    def attribute(n: ast.Attribute) -> Any:
        if isinstance(n.value, ast.Name) and n.value.id == "self":
            if n.attr in init.attributes and n.attr not in vars(init.cls):
                return run(init.attributes[n.attr])
            found = getattr(init.cls, n.attr, None)
            if type(found) in (int, float, bool, str):
                return found
        dotted = ast.unparse(n)
        if dotted in env:
            return env[dotted]
        raise Unknown

    def compare(n: ast.Compare) -> Any:
        left, right = run(n.left), run(n.comparators[0])
        table: dict[type, Any] = {
            ast.Eq: lambda: left == right, ast.NotEq: lambda: left != right,
            ast.Gt: lambda: left > right, ast.Lt: lambda: left < right,
            ast.GtE: lambda: left >= right, ast.LtE: lambda: left <= right,
            ast.Is: lambda: left is right, ast.IsNot: lambda: left is not right,
        }  # fmt: skip
        if type(n.ops[0]) not in table:
            raise Unknown
        return table[type(n.ops[0])]()

    try:
        return run(node)
    except (TypeError, ValueError, ZeroDivisionError, IndexError, KeyError, RecursionError):
        raise Unknown from None


def free_names(node: ast.AST, init: Init) -> set[str]:
    """The constructor's arguments that an expression reads, also through names of its own."""
    found = _names(node)
    while (
        more := {n for name in found & init.locals.keys() for n in _names(init.locals[name])}
        - found
    ):
        found |= more
    return found & init.parameters.keys()


def solved(node: ast.AST, name: str, value: Any, env: dict[str, Any], init: Init) -> Any:
    """The one plain number that an argument must have for an expression to have this value.

    None where there is none among the usual ratios, or several.
    """
    if type(value) is int and isinstance(node, ast.Name) and node.id == name:
        return value
    kind = float if isinstance(init.parameters[name].default, float) else int
    found = []
    sizes = {value} if type(value) is int else set()
    for candidate in (*sorted({*range(1, 17)} | sizes), *_RATIOS):
        tried = kind(candidate) if candidate == int(candidate) else candidate
        try:
            if equal(evaluate(node, {**env, name: tried}, init), value):
                found.append(tried)
        except Unknown:
            return None
    return found[0] if len(found) == 1 else None


_RATIOS = (0.0625, 0.125, 0.25, 0.5, 0.75, 1.5, 2.5, 3.5)


def recover(module: torch.nn.Module, init: Init) -> dict[str, Any]:
    """Constructor arguments that a module kept under their own name."""
    env: dict[str, Any] = {}
    for name, node in init.attributes.items():
        value = module.__dict__.get(name)
        if not isinstance(value, (int, float, bool, str, tuple)):
            continue
        if isinstance(node, ast.Name) and node.id in init.parameters:
            env.setdefault(node.id, value)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.value.id in init.parameters:
                env.setdefault(ast.unparse(node), value)
    for name in init.parameters:
        held = module.__dict__.get(name)
        if name not in env and type(held).__name__.endswith("Config"):
            env[name] = held
    return env


def same(a: Any, b: Any) -> bool:
    """Equal, and of one kind: 1 is not True and not 1.0."""
    if a is ANY or b is ANY:
        return True
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    try:
        return a is b or (type(a) is type(b) and bool(a == b))
    except Exception:  # an object of the user's, with a comparison of its own
        return False


def equal(a: Any, b: Any) -> bool:
    """Equal as an argument: (3, 3) is 3."""
    if a is ANY or b is ANY:
        return True
    if isinstance(a, (tuple, list)) and isinstance(b, int) and not isinstance(b, bool):
        return bool(a) and all(x == b for x in a)
    if isinstance(a, bool) != isinstance(b, bool):
        return False
    if isinstance(a, (int, float)) and isinstance(b, (int, float)):
        return a == b
    return same(a, b)
