"""``docs/coverage.md`` names what torch has now, and the README says what the page says."""

from __future__ import annotations

import re
from pathlib import Path

from .coverage import KINDS, elsewhere
from .modules import classes
from .ops import entries
from .outside import OUTSIDE
from .test_optimizers import INFOS
from .twins import twin_of

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "coverage.md"


def rows():
    """Cells of every row, by section."""
    found: dict[str, list[list[str]]] = {}
    title = ""
    for line in PAGE.read_text().splitlines():
        if line.startswith("## "):
            title = line[3:]
        elif line.startswith("| ") and not line.startswith("| name"):
            found.setdefault(title, []).append([cell.strip() for cell in line.split("|")[1:-1]])
    return found


def test_the_page_names_what_torch_has():
    expected = {
        "module": set(classes()),
        "outside": set(OUTSIDE),
        "function": set(entries()),
        "optimizer": set(INFOS),
    }
    assert {kind: {row[0] for row in rows()[KINDS[kind]]} for kind in KINDS} == expected


def test_no_row_differs_and_absent_names_give_todays_reason():
    page = rows()
    everything = [row for kind in KINDS.values() for row in page[kind]]
    assert not [row for row in everything if "differ" in row[-1]]
    absent = {row[0]: row[-1] for row in page[KINDS["function"]] if "no twin" in row[-1]}
    reasons = {name: twin_of(name).absent for name in entries()}
    assert absent == {name: f"no twin: {why}" for name, why in reasons.items() if why}


def test_files_of_containers_are_todays():
    text = PAGE.read_text()
    assert "\n".join(elsewhere()) in text


def test_the_readme_counts_as_the_page_does():
    (sentence,) = re.findall(r"^(\d+ of \d+ samples) run", PAGE.read_text(), re.M)
    readme = " ".join((ROOT / "README.md").read_text().split())
    assert sentence in readme
