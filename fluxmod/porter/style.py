"""A small formatter: the generated text as ``ruff format`` would leave it.

The porter writes each statement on one line; this lays it out. It knows the kinds of expressions
that the porter writes and that ``fluxmod.nn`` has.
"""

from __future__ import annotations

import ast
import re
from typing import Any

__all__ = ["WIDTH", "conditions", "expression", "statement"]

WIDTH = 100
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
    """Lay out one statement; the indentation of nested blocks in ``line`` is kept."""
    extra = len(line) - len(line.lstrip(" "))
    indent, line = indent + extra, line.strip()
    pad = " " * indent
    if not line:
        return [""]
    if line.endswith(":") or line.startswith(("#", "@", '"""')) or line == "pass":
        return [pad + _header(line)]
    lines = _laid_out(line, indent)
    return [*lines[:-1], f"{lines[-1]}  # fmt: skip"] if _is_filled(lines) else lines


def _is_filled(lines: list[str]) -> bool:
    """Whether several numbers stand on one line of several: a formatter would put one on each."""
    return any(re.fullmatch(r"\s*(-?[\d.e+-]+, ){3,}-?[\d.e+-]+,", line) for line in lines)


def _laid_out(line: str, indent: int) -> list[str]:
    pad = " " * indent
    node = ast.parse(line).body[0]
    if isinstance(node, ast.Return):
        if node.value is None:
            return [pad + "return"]
        text = _tail(node.value, indent, "return ", tuple_bare=True)
        return (pad + text).split("\n")
    if isinstance(node, ast.Assign):
        targets = [_target(t) for t in node.targets]
        prefix = " = ".join(targets) + " = "
        return (pad + _tail(node.value, indent, prefix, tuple_bare=True)).split("\n")
    if isinstance(node, ast.Expr):
        return (pad + _tail(node.value, indent, "")).split("\n")
    return [pad + ast.unparse(node)]


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


def conditions(word: str, test: ast.expr, indent: int) -> list[str]:
    """The line, or lines, that open an ``if`` or a ``while``."""
    pad = " " * indent
    line = f"{pad}{word} {expression(test)}:"
    if len(line) <= WIDTH:
        return [line]
    operands = [f"{pad}    {each}" for each in _operands(test, indent + 4)]
    return [f"{pad}{word} (", *"\n".join(operands).split("\n"), f"{pad}):"]


def _target(node: ast.expr) -> str:
    if isinstance(node, ast.Tuple):
        return ", ".join(expression(e) for e in node.elts)
    return expression(node)


def _bare(node: ast.expr) -> str:
    if isinstance(node, ast.Tuple) and len(node.elts) > 1:
        return ", ".join(expression(e, 2) for e in node.elts)
    return expression(node)


def _tail(node: ast.expr, indent: int, prefix: str, *, tuple_bare: bool = False) -> str:
    """The right-hand side of a statement."""
    flat = _bare(node) if tuple_bare else expression(node)
    if indent + len(prefix) + len(flat) <= WIDTH:
        return prefix + flat
    if (hanging := _hanging(node, indent, prefix)) is not None:
        return hanging
    chained = _links(node)
    wrap = isinstance(node, (ast.BinOp, ast.BoolOp, ast.Compare, ast.IfExp)) or chained is not None
    if wrap:
        inner = indent + 4
        pad = "\n" + " " * inner
        if chained is not None:
            body = pad.join(chained)
        elif inner + len(flat) <= WIDTH:
            body = flat
        else:
            body = pad.join(_operands(node, inner))
        return f"{prefix}({pad}{body}\n{' ' * indent})"
    return prefix + _exploded(node, indent)


def _hanging(node: ast.expr, indent: int, prefix: str) -> str | None:
    """``x + f(...)`` split inside the last call, where there is one operator only."""
    if (
        not isinstance(node, ast.BinOp)
        or not isinstance(node.right, ast.Call)
        or not node.right.args
    ):
        return None
    symbol, own = _BINARY[type(node.op)]
    if isinstance(node.left, ast.BinOp) and _BINARY[type(node.left.op)][1] == own:
        return None
    if _links(node.right) is not None:
        return None
    head = f"{prefix}{expression(node.left, own)} {symbol} "
    split = _exploded(node.right, indent)
    first = split.split("\n")[0]
    return head + split if indent + len(head) + len(first) <= WIDTH else None


def _links(node: ast.expr) -> list[str] | None:
    """A chain of two or more method calls, one link a line; None for anything else."""
    links: list[str] = []
    current: Any = node
    while isinstance(current, ast.Call) and isinstance(current.func, ast.Attribute):
        owner = current.func.value
        if not isinstance(owner, (ast.Call, ast.Subscript)):
            break
        links.insert(0, f".{current.func.attr}({', '.join(_arguments(current))})")
        current = owner
    if len(links) < 2:
        return None
    return [expression(current), *links]


def _operands(node: Any, indent: int) -> list[str]:
    """An operator's operands, one a line, the operator in front."""
    if isinstance(node, ast.BinOp):
        symbol, own = _BINARY[type(node.op)]
        left: list[str] = []
        current: Any = node
        while isinstance(current, ast.BinOp) and _BINARY[type(current.op)][1] == own:
            symbol = _BINARY[type(current.op)][0]
            left.insert(0, f"{symbol} {_within(current.right, indent, own + 1, len(symbol) + 1)}")
            current = current.left
        return [_within(current, indent, own, 0), *left]
    if isinstance(node, ast.BoolOp):
        word = "or" if isinstance(node.op, ast.Or) else "and"
        first, *rest = (_within(v, indent, 6, 4) for v in node.values)
        return [first, *(f"{word} {r}" for r in rest)]
    if isinstance(node, ast.IfExp):
        return [
            _within(node.body, indent, 4, 0),
            f"if {_within(node.test, indent, 4, 3)}",
            f"else {_within(node.orelse, indent, 4, 5)}",
        ]
    return [_within(node, indent, 0, 0)]


def _within(node: ast.expr, indent: int, outer: int, used: int) -> str:
    flat = expression(node, outer)
    if indent + used + len(flat) <= WIDTH:
        return flat
    return _exploded(node, indent, outer)


def _exploded(node: Any, indent: int, outer: int = 0) -> str:
    """An expression that does not fit, split at its last brackets."""
    inner = indent + 4
    if isinstance(node, ast.Call):
        head = expression(node.func, 18)
        if not node.args and not node.keywords and isinstance(node.func, ast.Attribute):
            return f"{_exploded(node.func.value, indent, 18)}.{node.func.attr}()"
        return f"{head}({_lines(_parts(node), inner)}\n{' ' * indent})"
    if isinstance(node, ast.Subscript):
        return f"{_exploded(node.value, indent, 18)}[{_index(node.slice)}]"
    if isinstance(node, ast.Attribute):
        return f"{_exploded(node.value, indent, 18)}.{node.attr}"
    if isinstance(node, ast.Starred):
        return f"*{_exploded(node.value, indent, 8)}"
    if isinstance(node, (ast.Tuple, ast.List)):
        brackets = "[]" if isinstance(node, ast.List) else "()"
        parts = [("", e) for e in node.elts]
        if isinstance(node, ast.Tuple) and len(parts) == 1:
            return f"({_lines(parts, inner)},\n{' ' * indent})"
        if len(parts) > 16 and all(_is_simple(e) for e in node.elts):
            return f"{brackets[0]}{_filled(node.elts, inner)}\n{' ' * indent}{brackets[1]}"
        return f"{brackets[0]}{_lines(parts, inner)}\n{' ' * indent}{brackets[1]}"
    if isinstance(node, ast.Dict):
        pairs = [
            (f"{expression(k)}: ", v) for k, v in zip(node.keys, node.values, strict=True) if k
        ]
        return "{" + _lines(pairs, inner, one_line=False) + "\n" + " " * indent + "}"
    if isinstance(node, _COMPREHENSIONS):
        pad, ends = "\n" + " " * inner, _ends(node)
        return f"{ends[0]}{pad}{_spread(node, inner)}\n{' ' * indent}{ends[1]}"
    if isinstance(node, (ast.BinOp, ast.BoolOp, ast.IfExp)):
        if _flat(node)[1] < outer:
            pad = "\n" + " " * inner
            return f"({pad}{pad.join(_operands(node, inner))}\n{' ' * indent})"
        return ("\n" + " " * indent).join(_operands(node, indent))
    return expression(node, outer)


def _spread(node: Any, indent: int) -> str:
    """A comprehension without its brackets, on one line or its parts one a line."""
    flat = " ".join([_element(node), *_loops(node)])
    if indent + len(flat) <= WIDTH:
        return flat
    whole = isinstance(node, ast.DictComp)
    element = _element(node) if whole else _within(node.elt, indent, 2, 0)
    return ("\n" + " " * indent).join([element, *_loops(node)])


def _filled(elements: list[ast.expr], indent: int) -> str:
    """Many numbers, as many on a line as fit."""
    lines = [" " * indent]
    for element in elements:
        text = f"{expression(element)}, "
        if len(lines[-1]) + len(text) > WIDTH:
            lines.append(" " * indent)
        lines[-1] += text
    return "\n" + "\n".join(line.rstrip() for line in lines)


def _parts(node: ast.Call) -> list[tuple[str, ast.expr]]:
    return [("", a) for a in node.args] + [
        (f"{k.arg}=" if k.arg else "**", k.value) for k in node.keywords
    ]


def _lines(parts: list[tuple[str, ast.expr]], indent: int, *, one_line: bool = True) -> str:
    """What stands between exploded brackets: all on one line, or one a line."""
    pad = "\n" + " " * indent
    if len(parts) == 1 and isinstance(parts[0][1], ast.GeneratorExp):
        return pad + _spread(parts[0][1], indent)
    flat = ", ".join(prefix + expression(n, 2) for prefix, n in parts)
    if one_line and indent + len(flat) <= WIDTH:
        return pad + flat
    texts = []
    comma = "," if len(parts) > 1 or not one_line else ""
    for prefix, node in parts:
        text = prefix + expression(node, 2)
        if indent + len(text) + 1 > WIDTH:
            text = prefix + _exploded(node, indent)
        texts.append(f"{text}{comma}")
    return pad + pad.join(texts)
