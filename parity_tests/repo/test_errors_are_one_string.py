"""``raise X("a" "b")`` with a comma slipped in shows the user a tuple; no linter says so."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("fluxmod", "examples", "benchmarks")


def is_text(node: ast.expr) -> bool:
    if isinstance(node, ast.BinOp):
        return is_text(node.left) or is_text(node.right)
    return isinstance(node, ast.JoinedStr) or (
        isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


def split_messages(folder: Path) -> list[str]:
    """Return where an exception is raised with two or more positional strings."""
    return [
        f"{path.relative_to(folder.parent)}:{node.lineno}"
        for path in sorted(folder.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)
        if sum(map(is_text, node.exc.args)) >= 2
    ]


def test_every_error_message_is_one_string():
    found = [where for name in FOLDERS for where in split_messages(ROOT / name)]
    assert not found, f"join the strings into one message: {found}"


def test_the_check_can_fail(tmp_path):
    (tmp_path / "errors.py").write_text(
        'raise ValueError("one " "string")\n'
        'raise OSError(2, "errno and text")\n'
        'raise ValueError("two", "strings")\n'
        'raise ValueError(f"two {1}", "a" + str(2))\n'
    )
    name = tmp_path.name
    assert split_messages(tmp_path) == [f"{name}/errors.py:3", f"{name}/errors.py:4"]
