"""pyproject.toml and constraints.txt agree with each other."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import fluxmod

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PINS = {
    canonicalize_name(pin.name): pin.specifier
    for line in (ROOT / "constraints.txt").read_text().splitlines()
    if (text := line.partition("#")[0].strip())
    for pin in [Requirement(text)]
}
REQUIRED = [
    Requirement(text)
    for group in [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    for text in group
]


@pytest.mark.parametrize("required", [r for r in REQUIRED if r.name != "fluxmod"], ids=str)
def test_the_pin_is_within_the_range(required):
    (pin,) = PINS[canonicalize_name(required.name)]
    assert pin.operator == "=="
    assert pin.version in required.specifier


def test_no_pin_names_one_build_of_a_release():
    local = [name for name, (pin,) in PINS.items() if Version(pin.version).local]
    assert local == []


def test_the_version_is_written_once_in_two_places():
    assert PROJECT["version"] == fluxmod.__version__


def test_types_are_shipped():
    assert (ROOT / "fluxmod" / "py.typed").is_file()
