"""Growth is the failure to guard against: split a file or a function, do not raise the limits."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
FILE_LIMIT = 600
FUNCTION_LIMIT = 100


def long_files(folder: Path) -> dict[str, int]:
    sizes = {p: len(p.read_text().splitlines()) for p in sorted(folder.rglob("*.py"))}
    return {str(p.relative_to(folder)): n for p, n in sizes.items() if n > FILE_LIMIT}


def long_functions(folder: Path) -> dict[str, int]:
    found = {}
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = node.end_lineno - node.lineno + 1
                if lines > FUNCTION_LIMIT:
                    found[f"{path.relative_to(folder)}:{node.lineno} {node.name}"] = lines
    return found


def test_no_file_outgrows_the_limit():
    long = long_files(ROOT / "fluxmod")
    assert not long, f"over {FILE_LIMIT} lines, split by family: {long}"


def test_no_function_outgrows_the_limit():
    long = long_functions(ROOT / "fluxmod")
    assert not long, f"over {FUNCTION_LIMIT} lines, split by step: {long}"


def test_the_checks_can_fail(tmp_path):
    (tmp_path / "fits.py").write_text("x = 1\n" * 600)
    (tmp_path / "file.py").write_text("x = 1\n" * 601)
    (tmp_path / "function.py").write_text(
        "def fits():\n"
        + "    x = 1\n" * 99
        + "class A:\n    def long(self):\n"
        + "        x = 1\n" * 100
    )
    assert long_files(tmp_path) == {"file.py": 601}
    assert long_functions(tmp_path) == {"function.py:102 long": 101}
