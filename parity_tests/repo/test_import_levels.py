"""A package imports only from lower levels, and torch is loaded only where it is the subject."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Lowest first; packages on one level do not know each other.
LEVELS = (
    ("_errors", "_optional", "_paths", "_transformers", "doctor"),
    ("nn",),
    ("optim", "train", "models"),
    ("convert",),
    ("parity",),
    ("porter",),
    ("bench",),
    ("cli",),
)
LEVEL = {name: level for level, names in enumerate(LEVELS) for name in names}
# At the bottom these build on each other; nothing else on a level does.
BOTTOM = {("_optional", "_errors")}

MUST_NOT_LOAD = {
    "fluxmod": {"torch", "jax"},
    "fluxmod._errors": {"torch", "jax"},
    "fluxmod._optional": {"torch", "jax"},
    "fluxmod._paths": {"torch", "jax"},
    "fluxmod._transformers": {"torch", "jax", "transformers"},
    "fluxmod.doctor": {"torch", "jax"},
    "fluxmod.cli": {"torch", "jax"},
    "fluxmod.nn": {"torch"},
    "fluxmod.nn.functional": {"torch"},
    "fluxmod.models.flax": {"torch"},
    "fluxmod.optim": {"torch"},
    "fluxmod.train": {"torch"},
    "fluxmod.convert": {"torch"},
}


def package_of(dotted: str) -> str | None:
    """Return the name below ``fluxmod`` that a dotted module name belongs to."""
    parts = dotted.split(".")
    return parts[1] if parts[0] == "fluxmod" and len(parts) > 1 else None


def imported(tree: ast.AST, package: str) -> Iterator[tuple[int, str]]:
    """Yield the line and dotted name of each import, those inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and isinstance(
            node.args[0] if node.args else None, ast.Constant
        ):
            called = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if called in ("import_module", "__import__"):
                yield node.lineno, str(node.args[0].value)


def upward_imports(fluxmod: Path) -> list[str]:
    """Return every import in the package folder that does not point to a lower level."""
    found = []
    for path in sorted(fluxmod.rglob("*.py")):
        parts = ("fluxmod", *path.relative_to(fluxmod).with_suffix("").parts)
        source = package_of(".".join(parts))
        for line, name in imported(ast.parse(path.read_text()), ".".join(parts[:-1])):
            target = package_of(name)
            if target not in LEVEL or target == source or (source, target) in BOTTOM:
                continue
            if source not in LEVEL or LEVEL[target] >= LEVEL[source]:
                found.append(f"{'/'.join(parts)}.py:{line} imports {name}")
    return found


def loaded_in_fresh_process(module: str, watched: set[str], path: Path = ROOT) -> set[str]:
    """Import ``module`` in a new interpreter and return which of ``watched`` came with it."""
    code = f"import json, sys, {module}; print(json.dumps(sorted({watched!r} & set(sys.modules))))"
    env = os.environ | {"PYTHONPATH": str(path)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=env, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


def exists(module: str) -> bool:
    path = ROOT.joinpath(*module.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def test_every_package_has_a_level():
    names = {p.stem for p in (ROOT / "fluxmod").iterdir() if p.suffix == ".py" or p.is_dir()}
    assert names - {"__init__", "__main__", "__pycache__"} <= set(LEVEL)


def test_imports_point_downwards():
    assert upward_imports(ROOT / "fluxmod") == []


@pytest.mark.parametrize("module", [name for name in MUST_NOT_LOAD if exists(name)])
def test_what_an_import_loads(module):
    assert loaded_in_fresh_process(module, MUST_NOT_LOAD[module]) == set()


def test_the_level_check_can_fail(tmp_path):
    nn = tmp_path / "fluxmod" / "nn"
    nn.mkdir(parents=True)
    (nn / "_good.py").write_text("from . import _init\nfrom fluxmod._errors import PortError\n")
    (nn / "_bad.py").write_text(
        "from fluxmod.convert import plan\n"
        "def late():\n"
        "    from fluxmod import parity\n"
        "    from ..train import step\n"
        "    import_module('fluxmod.cli')\n"
    )
    assert upward_imports(tmp_path / "fluxmod") == [
        "fluxmod/nn/_bad.py:1 imports fluxmod.convert.plan",
        "fluxmod/nn/_bad.py:3 imports fluxmod.parity",
        "fluxmod/nn/_bad.py:4 imports fluxmod.train.step",
        "fluxmod/nn/_bad.py:5 imports fluxmod.cli",
    ]


def test_the_loading_check_can_fail(tmp_path):
    (tmp_path / "planted.py").write_text("import torch\n")
    assert loaded_in_fresh_process("planted", {"torch", "jax"}, tmp_path) == {"torch"}
