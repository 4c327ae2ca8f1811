"""Leaving out of a function what plays no part in computing its result.

That is: paths that end in an error, with what is computed for their sake; calls of functions in
which nothing else remains; branches whose condition is known, because nothing in the file sets a
context variable or makes an object of a class. Every rule looks at the code's structure alone.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from .definitions import Function, binds, inner_names, is_doc

__all__ = ["Known", "is_hollow", "is_pure", "loaded", "replace", "simplify"]

_EFFECTS = {"delattr", "exec", "next", "print", "setattr", "rngs"}
_CHANGES = {"add", "append", "clear", "extend", "fork", "insert", "pop", "remove", "set_value"}
_INVERSE = {ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
            ast.In: ast.NotIn, ast.NotIn: ast.In}  # fmt: skip


@dataclass
class Known:
    """What is known about the whole file."""

    hollow: set[str] = field(default_factory=set)  # functions without an effect and a result
    unborn: Callable[[str], bool] = lambda key: False  # classes of which there is no object
    unset: dict[str, ast.expr] = field(default_factory=dict)  # context variables never set
    hollow_method: Callable[[str], bool] = lambda name: False  # of the class at hand


def simplify(function: Any, known: Known) -> None:
    """Simplify a function in place, and those inside it."""
    while True:
        before = ast.dump(function)
        _fold_constants(function, known)
        function.body = _clean(function.body, known, function)
        while function.body and isinstance(function.body[-1], ast.Raise) and function.body[1:]:
            function.body.pop()
        _propagate(function)
        _drop_dead(function)
        if not function.body:
            function.body = [ast.Pass()]
        if ast.dump(function) == before:
            return


def is_hollow(function: Any) -> bool:
    """Whether calling a function changes nothing and gives nothing."""
    return not function.decorator_list and all(
        is_doc(node)
        or isinstance(node, ast.Pass | ast.Delete)
        or (isinstance(node, ast.Return) and _is_none(node.value))
        for node in function.body
    )


def is_pure(node: ast.AST | None) -> bool:
    """Whether an expression can be left out: none of its calls may have an effect.

    Only what was computed for a check can become unused, so that it is enough to know the calls
    that change something in this package.
    """
    for each in ast.walk(node) if node is not None else ():
        if isinstance(each, ast.NamedExpr | ast.Yield | ast.YieldFrom):
            return False
        if not isinstance(each, ast.Call):
            continue
        called = each.func
        if isinstance(called, ast.Name):
            if called.id in _EFFECTS:
                return False
        elif isinstance(called, ast.Attribute):
            if _root(called) in ("self", "rngs") or called.attr in _CHANGES:
                return False
    return True


def loaded(node: ast.AST) -> set[str]:
    """The names that are read."""
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}


def _root(node: Any) -> str:
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def _is_none(node: Any) -> bool:
    return node is None or (isinstance(node, ast.Constant) and node.value is None)


def _truth(node: ast.expr) -> bool | None:
    """A condition's value, if it is written there."""
    return bool(node.value) if isinstance(node, ast.Constant) else None


def _whole(node: ast.expr) -> int | None:
    """A whole number, if it is written there."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        value = _whole(node.operand)
        return None if value is None else -value
    return node.value if isinstance(node, ast.Constant) and type(node.value) is int else None


def _fold_constants(function: Any, known: Known) -> None:
    folder = _Folder(known)
    for each in ast.walk(function.args):
        if isinstance(each, ast.arg) and each.annotation is not None:
            each.annotation = _possible(each.annotation, known)
    if function.returns is not None:
        function.returns = _possible(function.returns, known)
    function.body = [folder.visit(node) for node in function.body]


def _possible(kind: ast.expr, known: Known) -> ast.expr:
    """A type without alternatives of which there is no object."""
    if not isinstance(kind, ast.BinOp) or not isinstance(kind.op, ast.BitOr):
        return kind
    kind.left, kind.right = _possible(kind.left, known), _possible(kind.right, known)
    if isinstance(kind.right, ast.Name) and known.unborn(kind.right.id):
        return kind.left
    if isinstance(kind.left, ast.Name) and known.unborn(kind.left.id):
        return kind.right
    return kind


class _Folder(ast.NodeTransformer):
    """Replace expressions whose value is known."""

    def __init__(self, known: Known) -> None:
        self.known = known

    def visit_Call(self, node: ast.Call) -> Any:
        """``isinstance`` of a class without objects, ``get`` of a variable that is never set."""
        self.generic_visit(node)
        called = node.func
        if isinstance(called, ast.Name) and called.id == "isinstance" and len(node.args) == 2:
            kinds = node.args[1]
            each = kinds.elts if isinstance(kinds, ast.Tuple) else [kinds]
            left = [k for k in each if not (isinstance(k, ast.Name) and self.known.unborn(k.id))]
            if not left:
                return ast.Constant(False)
            if len(left) < len(each):
                node.args[1] = left[0] if len(left) == 1 else ast.Tuple(left, ast.Load())
        if isinstance(called, ast.Attribute) and called.attr == "get" and not node.args:
            if isinstance(called.value, ast.Name) and called.value.id in self.known.unset:
                return self.known.unset[called.value.id]
        return node

    def visit_Compare(self, node: ast.Compare) -> Any:
        """Two constants."""
        self.generic_visit(node)
        sides = [node.left, *node.comparators]
        if len(sides) == 2 and all(isinstance(s, ast.Constant) for s in sides):
            left, right = (s.value for s in sides if isinstance(s, ast.Constant))
            same = left is right if isinstance(node.ops[0], ast.Is | ast.IsNot) else left == right
            if isinstance(node.ops[0], ast.Is | ast.Eq):
                return ast.Constant(same)
            if isinstance(node.ops[0], ast.IsNot | ast.NotEq):
                return ast.Constant(not same)
        return node

    def visit_BinOp(self, node: ast.BinOp) -> Any:
        """Sums and differences of whole numbers."""
        self.generic_visit(node)
        left, right = _whole(node.left), _whole(node.right)
        if left is None or right is None or not isinstance(node.op, ast.Add | ast.Sub):
            return node
        found = left + right if isinstance(node.op, ast.Add) else left - right
        value = ast.Constant(abs(found))
        return value if found >= 0 else ast.UnaryOp(ast.USub(), value)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> Any:
        """``not`` of a constant."""
        self.generic_visit(node)
        if isinstance(node.op, ast.Not) and (truth := _truth(node.operand)) is not None:
            return ast.Constant(not truth)
        return node

    def visit_BoolOp(self, node: ast.BoolOp) -> Any:
        """Operands in front of the deciding one."""
        self.generic_visit(node)
        decides, values = isinstance(node.op, ast.Or), []
        for value in node.values:
            truth = _truth(value)
            if truth is None or truth is decides or value is node.values[-1]:
                values.append(value)
            if truth is decides:
                break
        node.values = values
        return values[0] if len(values) == 1 else node

    def visit_IfExp(self, node: ast.IfExp) -> Any:
        """A known condition."""
        self.generic_visit(node)
        truth = _truth(node.test)
        return node if truth is None else node.body if truth else node.orelse


def _clean(body: list[Any], known: Known, function: Any) -> list[Any]:
    """A block without checks; what follows its end goes."""
    found: list[Any] = []
    for node in body:
        found += _cleaned(node, known, function)
        if found and isinstance(found[-1], ast.Return | ast.Raise | ast.Continue | ast.Break):
            break
    return found


def _fails(body: list[Any]) -> bool:
    return bool(body) and isinstance(body[-1], ast.Raise)


def _cleaned(node: Any, known: Known, function: Any) -> list[Any]:
    """What remains of a statement."""
    if isinstance(node, ast.Assert | ast.Pass):
        return []
    if isinstance(node, ast.Expr):
        return [] if _is_idle(node.value, known) else [node]
    if isinstance(node, ast.FunctionDef):
        simplify(node, known)
    if isinstance(node, ast.If):
        return _cleaned_if(node, known, function)
    if isinstance(node, ast.For | ast.While | ast.With):
        node.body = _clean(node.body, known, function)
        if isinstance(node, ast.With):
            return [node] if node.body else []
        _drop_continue(node.body)
        return [node] if node.body and not _fails(node.body) else []
    if isinstance(node, ast.Try):
        node.body = _clean(node.body, known, function)
        for handler in node.handlers:
            handler.body = _clean(handler.body, known, function)
        node.handlers = [h for h in node.handlers if not _fails(h.body)]
        whole = node.body and (node.handlers or node.finalbody)
        return [node] if whole else [*node.body, *node.orelse]
    return [node]


def _drop_continue(body: list[Any]) -> None:
    """At the end of a loop's body nothing is left to be skipped."""
    if body and isinstance(body[-1], ast.Continue):
        body.pop()
    elif body and isinstance(body[-1], ast.If):
        _drop_continue(body[-1].body)
        _drop_continue(body[-1].orelse)
        if not body[-1].body and not body[-1].orelse and is_pure(body[-1].test):
            body.pop()


def _cleaned_if(node: ast.If, known: Known, function: Any) -> list[Any]:
    node.body = _clean(node.body, known, function)
    node.orelse = _clean(node.orelse, known, function)
    if (truth := _truth(node.test)) is not None:
        return node.body if truth else node.orelse
    if _fails(node.body) or not (node.body or node.orelse):
        return [*_walrus(node.test, function), *node.orelse]
    if _fails(node.orelse):
        node.orelse = []
    if not node.body:
        node.test, node.body, node.orelse = _inverse(node.test), node.orelse, []
    return [node]


def _walrus(test: ast.expr, function: Any) -> list[ast.stmt]:
    """What a condition assigns besides, if it is read elsewhere."""
    others = [n.id for n in ast.walk(function) if isinstance(n, ast.Name)]
    inner = [n.id for n in ast.walk(test) if isinstance(n, ast.Name)]
    return [
        ast.copy_location(ast.Assign([each.target], each.value, lineno=0), test)
        for each in ast.walk(test)
        if isinstance(each, ast.NamedExpr)
        and others.count(each.target.id) > inner.count(each.target.id)
    ]


def _inverse(test: ast.expr) -> ast.expr:
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        return test.operand
    if isinstance(test, ast.Compare) and len(test.ops) == 1 and type(test.ops[0]) in _INVERSE:
        return ast.Compare(test.left, [_INVERSE[type(test.ops[0])]()], test.comparators)
    return ast.UnaryOp(ast.Not(), test)


def _is_idle(call: ast.expr, known: Known) -> bool:
    """Whether a call, for itself, does nothing: a check that is gone, a warning."""
    if not isinstance(call, ast.Call):
        return False
    called = call.func
    if isinstance(called, ast.Name):
        return called.id in known.hollow and all(map(is_pure, ast.iter_child_nodes(call)))
    if isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name):
        if called.value.id == "@warnings" and called.attr == "warn":
            return True
        return called.value.id == "self" and known.hollow_method(called.attr)
    return False


def _propagate(function: Any) -> None:
    """Names that are set once, to None, True, False or a whole number, are that."""
    stores: dict[str, int] = {}
    for node in ast.walk(function):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            stores[node.id] = stores.get(node.id, 0) + 1
        elif isinstance(node, ast.arg | ast.Nonlocal):
            names = [node.arg] if isinstance(node, ast.arg) else node.names
            stores |= dict.fromkeys(names, 2)
    values = {}
    for node in function.body:
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            target, value = node.targets[0], node.value
            if isinstance(target, ast.Name) and stores[target.id] == 1 and _is_flag(value):
                values[target.id] = value
    replace(function, values)


def _is_flag(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and (node.value is None or isinstance(node.value, int))


def replace(tree: ast.AST, values: dict[str, ast.expr]) -> None:
    """Put expressions in the place of names that are read, not of inner ones of the same name."""
    for child in ast.iter_child_nodes(tree) if values else ():
        _Replacer(values).visit(child)


class _Replacer(ast.NodeTransformer):
    def __init__(self, values: dict[str, ast.expr]) -> None:
        self.values = values

    def visit_Name(self, node: ast.Name) -> Any:
        return self.values.get(node.id, node) if isinstance(node.ctx, ast.Load) else node

    def generic_visit(self, node: ast.AST) -> Any:
        hidden = inner_names(node)
        if not hidden & self.values.keys():
            return super().generic_visit(node)
        left = {name: value for name, value in self.values.items() if name not in hidden}
        return ast.NodeTransformer.generic_visit(_Replacer(left), node)


def _drop_dead(function: Any) -> None:
    """Leave out values, functions and lists that nothing reads."""
    given = {a.arg for a in ast.walk(function.args) if isinstance(a, ast.arg)}
    kept = {n for node in ast.walk(function) for n in getattr(node, "names", ()) if node}
    filled = _only_filled(function) - given
    read = (loaded(function) - filled) | {n for n in kept if isinstance(n, str)}

    def is_dead(node: Any) -> bool:
        if isinstance(node, ast.FunctionDef):
            return node.name not in read and not node.decorator_list
        if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            parts = [e for t in targets for e in (t.elts if isinstance(t, ast.Tuple) else [t])]
            plain = all(isinstance(part, ast.Name) for part in parts)
            return plain and not read & set(binds(node)) and is_pure(node.value)
        if isinstance(node, ast.Delete):
            names = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
            return not names & given and not names & read
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            return _filled(node) in filled
        return False

    for owner in _blocks(function):
        if isinstance(owner, ast.Assign):
            _drop_elements(owner, read)
        for name in ("body", "orelse"):
            if isinstance(block := getattr(owner, name, None), list):
                setattr(owner, name, [node for node in block if not is_dead(node)])
    function.body = _without_empty(function.body)


def _drop_elements(node: ast.Assign, read: set[str]) -> None:
    """``a, b = x, y`` where one of them is not read."""
    target, value = node.targets[0], node.value
    if len(node.targets) > 1 or not isinstance(target, ast.Tuple):
        return
    if not isinstance(value, ast.Tuple) or len(value.elts) != len(target.elts):
        return
    kept = [
        (t, v)
        for t, v in zip(target.elts, value.elts, strict=True)
        if not isinstance(t, ast.Name) or t.id in read or not is_pure(v)
    ]
    if kept and len(kept) < len(target.elts):
        target.elts, value.elts = [t for t, _ in kept], [v for _, v in kept]
        if len(kept) == 1:
            node.targets, node.value = [target.elts[0]], value.elts[0]


def _blocks(function: Any) -> Iterator[Any]:
    """The function and the statements in it that hold others; inner functions see to theirs."""
    yield function
    for node in ast.iter_child_nodes(function):
        if isinstance(node, (*Function, ast.ClassDef)):
            continue
        yield from _blocks(node)


def _without_empty(body: list[Any]) -> list[Any]:
    found = []
    for node in body:
        if hasattr(node, "body") and not isinstance(node, (*Function, ast.ClassDef)):
            node.body = _without_empty(node.body)
            if not node.body and not getattr(node, "orelse", []):
                continue
            for part in (node, *getattr(node, "handlers", [])):
                part.body = part.body or [ast.Pass()]
        found.append(node)
    return found


def _only_filled(function: Any) -> set[str]:
    """Lists that are filled and never read."""
    counts: dict[str, int] = {}
    made: set[str] = set()
    for node in ast.walk(function):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            counts[node.id] = counts.get(node.id, 0) + 1
        elif isinstance(node, ast.Expr) and (name := _filled(node)):
            counts[name] = counts.get(name, 0) - 1
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            if isinstance(node.value, ast.List | ast.ListComp):
                made |= set(binds(node))
    return {name for name in made if counts.get(name, 0) == 0}


def _filled(node: ast.Expr) -> str:
    """The list that a statement appends to, if that has no other effect."""
    call = node.value
    if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute):
        owner = call.func.value
        if call.func.attr in ("append", "extend") and isinstance(owner, ast.Name):
            return owner.id if all(map(is_pure, call.args)) else ""
    return ""
