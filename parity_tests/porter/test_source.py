"""The generated source: under review, formatted, the same bytes on every run."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from fluxmod import porter
from parity_tests.porter.zoo import ZOO

pytest.importorskip("ruff", reason="ruff lays the sources out; install the extra 'torch'")

GOLDEN = Path(__file__).parent / "golden"
REVIEWED = ("cifar", "gcn", "gpt", "in_place", "mobilenet", "resnet18", "tcn", "unet", "vit")


def written(name: str) -> str:
    model, inputs = ZOO[name].make()
    return porter.translate(model, *inputs).text


@pytest.mark.parametrize("name", REVIEWED)
def test_the_source_is_the_one_under_review(name):
    """To accept a change: ``python -m parity_tests.porter.test_source``, then read the diff."""
    assert written(name) == (GOLDEN / f"{name}.py").read_text()


def test_two_runs_write_the_same_bytes():
    assert written("gcn") == written("gcn")


def test_the_source_is_formatted_and_clean():
    files = [str(p) for p in sorted(GOLDEN.glob("*.py"))]
    assert files
    for command in (["format", "--check", "--diff"], ["check", "--select", "E,F,I,B,UP"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, *files], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", REVIEWED)
def test_there_are_no_numbered_names(name):
    tree = ast.parse((GOLDEN / f"{name}.py").read_text())
    names = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}
    assert not [n for n in names if n.rpartition("_")[2].isdigit() and "_" in n]


def test_the_gallery_shows_these_sources():
    """To renew it: ``python -m parity_tests.porter.gallery docs/gallery.md``."""
    from parity_tests.porter.gallery import SHOWN

    page = (Path(__file__).parents[2] / "docs" / "gallery.md").read_text()
    assert [name for name in SHOWN if (GOLDEN / f"{name}.py").read_text() not in page] == []


if __name__ == "__main__":
    for each in REVIEWED:
        (GOLDEN / f"{each}.py").write_text(written(each), encoding="utf-8")
