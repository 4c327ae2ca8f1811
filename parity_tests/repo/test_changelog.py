"""CHANGELOG.md keeps the Keep-a-Changelog form, with room for the next change."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
KINDS = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def sections(text: str) -> dict[str, dict[str, list[str]]]:
    """Return release -> kind -> entries."""
    found: dict[str, dict[str, list[str]]] = {}
    kinds: dict[str, list[str]] = {}
    for line in text.splitlines():
        if release := re.match(r"## \[?([^\]\s]+)", line):
            kinds = found.setdefault(release[1], {})
        elif line.startswith("### "):
            kinds[line[4:].strip()] = []
        elif line.startswith("- "):
            kinds[list(kinds)[-1]].append(line[2:])
    return found


def test_unreleased_comes_first_and_has_entries():
    found = sections((ROOT / "CHANGELOG.md").read_text())
    assert next(iter(found)) == "Unreleased"
    assert any(found["Unreleased"].values())


def test_headings_are_known_and_none_is_empty():
    for release, kinds in sections((ROOT / "CHANGELOG.md").read_text()).items():
        assert set(kinds) <= KINDS, release
        assert all(kinds.values()), release


def test_the_reader_reads():
    text = (
        "# Changelog\n\n## [Unreleased]\n\n## [1.0] - 2030-01-01\n### Added\n- one\n  more\n- two\n"
    )
    assert sections(text) == {"Unreleased": {}, "1.0": {"Added": ["one", "two"]}}
