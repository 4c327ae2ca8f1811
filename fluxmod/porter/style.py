"""The generated text as ``ruff format`` leaves it.

The porter writes each statement on one line; ``ruff`` lays them out. Where it is not installed the
long ones stay as they are, and the program is the same.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import re
import subprocess
import sys
import textwrap
from typing import Any

__all__ = ["WIDTH", "expression", "formatted", "statement"]

WIDTH = 100
_NUMBERS = re.compile(r"(?<=\[)(?:-?[\d.]+(?:e[+-]?\d+)?, ){8,}-?[\d.]+(?:e[+-]?\d+)?(?=\])")
_BINARY = {
    ast.Add: ("+", 12), ast.Sub: ("-", 12), ast.Mult: ("*", 13), ast.Div: ("/", 13),
    ast.FloorDiv: ("//", 13), ast.Mod: ("%", 13), ast.MatMult: ("@", 13), ast.Pow: ("**", 15),
    ast.BitAnd: ("&", 10), ast.BitXor: ("^", 9), ast.BitOr: ("|", 8), ast.LShift: ("<<", 11),
    ast.RShift: (">>", 11),
}  # fmt: skip
_COMPARE = {
    ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=",
    ast.Is: "is", ast.IsNot: "is not", ast.In: "in", ast.NotIn: "not in",
}  # fmt: skip


def expression(node: ast.expr, outer: int = 0) -> str:
    """An expression on one line; ``outer`` is the precedence around it."""
    text, own = _flat(node)
    return f"({text})" if own < outer else text


def _flat(node: Any) -> tuple[str, int]:
    if isinstance(node, ast.Constant):
        if isinstance(node.value, str):
            return _quoted(node.value), 20
        if node.value is Ellipsis:
            return "...", 20
        return repr(node.value), 20
    if isinstance(node, ast.Name):
        return node.id, 20
    if isinstance(node, ast.Attribute):
        value = expression(node.value, 18)
        if isinstance(node.value, ast.Constant):
            value = f"({value})"
        return f"{value}.{node.attr}", 19
    if isinstance(node, ast.Call):
        return f"{expression(node.func, 18)}({', '.join(_arguments(node))})", 19
    if isinstance(node, ast.Subscript):
        return f"{expression(node.value, 18)}[{_index(node.slice)}]", 19
    if isinstance(node, ast.BinOp):
        return _binary(node)
    if isinstance(node, ast.UnaryOp):
        symbol = {ast.USub: "-", ast.UAdd: "+", ast.Invert: "~", ast.Not: "not "}[type(node.op)]
        own = 7 if isinstance(node.op, ast.Not) else 14
        return f"{symbol}{expression(node.operand, own)}", own
    if isinstance(node, ast.BoolOp):
        own, word = (5, " or ") if isinstance(node.op, ast.Or) else (6, " and ")
        return word.join(expression(v, own + 1) for v in node.values), own
    if isinstance(node, ast.Compare):
        parts = [expression(node.left, 8)]
        for operator, right in zip(node.ops, node.comparators, strict=True):
            parts += [_COMPARE[type(operator)], expression(right, 8)]
        return " ".join(parts), 7
    if isinstance(node, ast.IfExp):
        test, then, other = (expression(n, 4) for n in (node.test, node.body, node.orelse))
        return f"{then} if {test} else {other if not other.startswith('(') else other}", 3
    if isinstance(node, ast.Lambda):
        names = ast.unparse(node.args)
        return f"lambda{names and ' '}{names}: {expression(node.body, 3)}", 2
    if isinstance(node, ast.Starred):
        return f"*{expression(node.value, 8)}", 20
    if isinstance(node, (ast.Tuple, ast.List)):
        inner = ", ".join(expression(e, 2) for e in node.elts)
        if isinstance(node, ast.List):
            return f"[{inner}]", 20
        return f"({inner}{',' if len(node.elts) == 1 else ''})", 20
    if isinstance(node, ast.Dict):
        pairs = zip(node.keys, node.values, strict=True)
        return "{" + ", ".join(
            f"{expression(k, 2)}: {expression(v, 2)}" if k else f"**{expression(v, 8)}"
            for k, v in pairs
        ) + "}", 20
    if isinstance(node, _COMPREHENSIONS):
        ends = _ends(node)
        return f"{ends[0]}{' '.join([_element(node), *_loops(node)])}{ends[1]}", 20
    if isinstance(node, ast.Set):
        return "{" + ", ".join(expression(e, 2) for e in node.elts) + "}", 20
    if isinstance(node, ast.NamedExpr):
        return f"{node.target.id} := {expression(node.value, 2)}", 1
    if isinstance(node, ast.YieldFrom):
        return f"yield from {expression(node.value, 2)}", 1
    if isinstance(node, ast.JoinedStr):
        text = ast.unparse(node)
        quoted = re.fullmatch(r"f'([^\"\\\\]*)'", text)
        return (f'f"{quoted[1]}"' if quoted else text), 20
    return ast.unparse(node), 1


_COMPREHENSIONS = (ast.GeneratorExp, ast.ListComp, ast.SetComp, ast.DictComp)


def _quoted(text: str) -> str:
    """A string between double quotes, unless that needs more backslashes."""
    plain = repr(text)
    if plain.startswith('"') or ('"' in text and "'" not in text):
        return plain
    return '"' + plain[1:-1].replace("\\'", "'").replace('"', '\\"') + '"'


def _ends(node: Any) -> str:
    if isinstance(node, ast.GeneratorExp):
        return "()"
    return "[]" if isinstance(node, ast.ListComp) else "{}"


def _element(node: Any) -> str:
    """What a comprehension makes."""
    if isinstance(node, ast.DictComp):
        return f"{expression(node.key, 2)}: {expression(node.value, 2)}"
    return expression(node.elt, 2)


def _loops(node: Any) -> list[str]:
    """The loops and conditions of a comprehension."""
    found = []
    for loop in node.generators:
        found.append(f"for {_target(loop.target)} in {expression(loop.iter, 4)}")
        found += [f"if {expression(test, 4)}" for test in loop.ifs]
    return found


def _arguments(node: ast.Call) -> list[str]:
    if len(node.args) == 1 and not node.keywords and isinstance(node.args[0], ast.GeneratorExp):
        return [expression(node.args[0])[1:-1]]
    texts = [expression(a, 2) for a in node.args]
    return texts + [f"{k.arg}={expression(k.value, 2)}" if k.arg else f"**{expression(k.value, 18)}"
                    for k in node.keywords]  # fmt: skip


def _index(node: ast.expr) -> str:
    if isinstance(node, ast.Tuple) and node.elts:
        return ", ".join(_index(e) for e in node.elts)
    if isinstance(node, ast.Slice):
        low, high = ("" if b is None else expression(b, 2) for b in (node.lower, node.upper))
        wide = any(
            b is not None and not isinstance(b, (ast.Name, ast.Constant)) and not _is_minus(b)
            for b in (node.lower, node.upper)
        )
        gap = " " if wide else ""
        step = "" if node.step is None else f"{gap}:{gap if gap else ''}{expression(node.step, 2)}"
        return f"{low}{gap if low else ''}:{gap if high else ''}{high}{step}"
    return expression(node, 2)


def _is_minus(node: ast.expr) -> bool:
    return isinstance(node, ast.UnaryOp) and isinstance(node.operand, (ast.Name, ast.Constant))


def _binary(node: ast.BinOp) -> tuple[str, int]:
    symbol, own = _BINARY[type(node.op)]
    if isinstance(node.op, ast.Pow):
        left, right = expression(node.left, own + 1), expression(node.right, own - 1)
        hug = all(_is_simple(side) for side in (node.left, node.right))
        return (f"{left}**{right}" if hug else f"{left} ** {right}"), own
    return f"{expression(node.left, own)} {symbol} {expression(node.right, own + 1)}", own


def _is_simple(node: ast.expr) -> bool:
    if isinstance(node, ast.UnaryOp) and not isinstance(node.op, ast.Not):
        node = node.operand
    if isinstance(node, ast.Attribute):
        return _is_simple(node.value) and not isinstance(node.value, ast.Constant)
    return isinstance(node, ast.Name) or (
        isinstance(node, ast.Constant) and not isinstance(node.value, str)
    )


def statement(line: str, indent: int) -> list[str]:
    """One statement in short; the indentation of nested blocks in ``line`` is kept."""
    extra = len(line) - len(line.lstrip(" "))
    indent, line = indent + extra, line.strip()
    if not line:
        return [""]
    if line.endswith(":") or line.startswith(("#", "@", '"""')) or line == "pass":
        return [" " * indent + _header(line)]
    return _filled(_short(line), indent)


def _short(line: str) -> str:
    node = ast.parse(line).body[0]
    if isinstance(node, ast.Return):
        return "return" if node.value is None else f"return {_bare(node.value)}"
    if isinstance(node, ast.Assign):
        return " = ".join([*map(_target, node.targets), _bare(node.value)])
    return expression(node.value) if isinstance(node, ast.Expr) else ast.unparse(node)


def _header(line: str) -> str:
    """A line that opens a block."""
    if not line.startswith(("for ", "if ", "with ")):
        return line
    node: Any = ast.parse(f"{line}\n    pass").body[0]
    if isinstance(node, ast.For):
        return f"for {_target(node.target)} in {expression(node.iter)}:"
    if isinstance(node, ast.If):
        return f"if {expression(node.test)}:"
    return line


def _target(node: ast.expr) -> str:
    if isinstance(node, ast.Tuple):
        return ", ".join(expression(e) for e in node.elts)
    return expression(node)


def _bare(node: ast.expr) -> str:
    if isinstance(node, ast.Tuple) and len(node.elts) > 1:
        return ", ".join(expression(e, 2) for e in node.elts)
    return expression(node)


def _filled(text: str, indent: int) -> list[str]:
    """A statement; many numbers as many on a line as fit, where ruff would put one on each."""
    pad = " " * indent
    numbers = _NUMBERS.search(text)
    if numbers is None or indent + len(text) <= WIDTH:
        return [pad + text]
    inner = f"{pad}    "
    lines = textwrap.wrap(numbers[0], WIDTH - 1, initial_indent=inner, subsequent_indent=inner)
    before, after = text[: numbers.start()], text[numbers.end() :]
    return [pad + before, *lines[:-1], f"{lines[-1]},", f"{pad}{after}  # fmt: skip"]


def formatted(text: str) -> str:
    """A whole file as ``ruff format`` leaves it at 100 columns."""
    if not _has_ruff():
        return text
    settings = ["--isolated", f"--line-length={WIDTH}", "--target-version=py311"]
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "format", *settings, "-"],
        input=text,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    return text if done.returncode else done.stdout


@functools.cache
def _has_ruff() -> bool:
    return importlib.util.find_spec("ruff") is not None
