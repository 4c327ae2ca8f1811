"""Trees back to text.

A statement that did not change keeps its lines. Others are short here, and laid out with the file.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from typing import Any

from fluxmod.porter.style import WIDTH, expression, statement

from .definitions import head, is_doc

__all__ = ["rendered"]


def rendered(body: Iterable[Any], indent: int = 0) -> list[str]:
    """The lines of a block."""
    lines: list[str] = []
    before: Any = None
    for node in body:
        text = _statement(node, indent)
        if before is not None and _gap(before, node, indent):
            lines.append("")
        lines += [" " * indent + c for c in getattr(node, "comments", [])] + text
        before = node
    return lines


def _gap(before: Any, node: Any, indent: int) -> bool:
    """Whether an empty line stands between two statements."""
    blocks = ast.FunctionDef | ast.ClassDef
    return getattr(node, "gap", False) or isinstance(before, blocks) or isinstance(node, blocks)


def _statement(node: Any, indent: int) -> list[str]:
    pad = " " * indent
    if is_doc(node):
        return _text(node.value.value, indent)
    lines = [pad + "@" + expression(d) for d in getattr(node, "decorator_list", [])]
    lines += _own(node, indent)
    if not isinstance(getattr(node, "body", None), list):
        return lines
    body = list(node.body)
    if isinstance(node, ast.ClassDef) and is_doc(body[0]) and body[1:]:
        body[1].gap = True
    lines += rendered(body or [ast.Pass()], indent + 4)
    for handler in getattr(node, "handlers", []):
        lines += _statement(handler, indent)
    if rest := getattr(node, "orelse", []):
        inner = rest[0] if isinstance(node, ast.If) and len(rest) == 1 else None
        if isinstance(inner, ast.If) and not getattr(inner, "comments", []):
            first, *others = _statement(rest[0], indent)
            return [*lines, f"{pad}el{first.lstrip()}", *others]
        lines += [pad + "else:", *rendered(rest, indent + 4)]
    if last := getattr(node, "finalbody", []):
        lines += [pad + "finally:", *rendered(last, indent + 4)]
    return lines


def _text(text: str, indent: int) -> list[str]:
    """A docstring."""
    pad = " " * indent
    first, *others = text.split("\n")
    if len(text) + indent + 6 > WIDTH and not others:
        cut = first.rindex(" ", 0, WIDTH - indent - 3)
        first, others = first[:cut], [first[cut + 1 :]]
    lines = [f'{pad}"""{first}', *((pad + line).rstrip() for line in others)]
    if others:
        return [*lines, f'{pad}"""']
    return [f'{lines[0]}"""']


def _own(node: Any, indent: int) -> list[str]:
    """The statement itself, without what it holds."""
    pad = " " * indent
    moved = getattr(node, "col_offset", indent) != indent and len(getattr(node, "lines", [])) > 1
    if getattr(node, "was", None) == ast.dump(head(node)) and not moved:
        return [(pad + line).rstrip() for line in node.lines]
    if isinstance(node, ast.FunctionDef):
        return _signature(node, indent)
    if isinstance(node, ast.ClassDef):
        inner = ", ".join(expression(b) for b in node.bases)
        return [f"{pad}class {node.name}{f'({inner})' if inner else ''}:"]
    if isinstance(node, ast.If | ast.While):
        word = "if" if isinstance(node, ast.If) else "while"
        return [f"{pad}{word} {expression(node.test)}:"]
    if isinstance(node, ast.For):
        return [f"{pad}for {_bare(node.target)} in {_bare(node.iter)}:"]
    if isinstance(node, ast.With | ast.Try | ast.ExceptHandler):
        opened = ast.unparse(head(node)).split("\n")[0]
        return [pad + opened]
    if isinstance(node, ast.Assign | ast.Return | ast.Expr):
        return [line.rstrip() for line in statement(ast.unparse(head(node)), indent)]
    if isinstance(node, ast.AnnAssign | ast.AugAssign) and node.value is not None:
        bare = ast.Assign([ast.Name("_", ast.Store())], node.value, lineno=0)
        front = ast.unparse(head(node)).removesuffix(ast.unparse(node.value))
        return _with_front(bare, front.rstrip(" ("), indent)
    return [pad + ast.unparse(node)]


def _with_front(node: ast.Assign, front: str, indent: int) -> list[str]:
    """An assignment whose left side is more than names."""
    first, *others = statement(ast.unparse(node), indent)
    return [first.replace("_ =", front, 1), *others]


def _bare(node: ast.expr) -> str:
    text = expression(node)
    return text[1:-1] if isinstance(node, ast.Tuple) and len(node.elts) > 1 else text


def _signature(node: ast.FunctionDef, indent: int) -> list[str]:
    pad = " " * indent
    parts = _parts(node.args)
    arrow = f" -> {expression(node.returns)}" if node.returns else ""
    return [f"{pad}def {node.name}({', '.join(parts)}){arrow}:"]


def _parts(args: ast.arguments) -> list[str]:
    """The parameters as they are written."""
    plain = [*args.posonlyargs, *args.args]
    defaults = [None] * (len(plain) - len(args.defaults)) + list(args.defaults)
    parts = [_parameter(a, d) for a, d in zip(plain, defaults, strict=True)]
    if args.posonlyargs:
        parts.insert(len(args.posonlyargs), "/")
    if args.vararg:
        parts.append("*" + _parameter(args.vararg, None))
    elif args.kwonlyargs:
        parts.append("*")
    parts += [_parameter(a, d) for a, d in zip(args.kwonlyargs, args.kw_defaults, strict=True)]
    return parts + (["**" + _parameter(args.kwarg, None)] if args.kwarg else [])


def _parameter(arg: ast.arg, default: ast.expr | None) -> str:
    text = arg.arg + (f": {expression(arg.annotation)}" if arg.annotation else "")
    if default is None:
        return text
    gap = " = " if arg.annotation else "="
    return f"{text}{gap}{expression(default)}"
