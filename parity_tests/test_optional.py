from __future__ import annotations

import json
import sys

import pytest

from fluxmod._errors import MissingExtraError
from fluxmod._optional import require


def test_returns_the_module():
    assert require("json", extra="torch", needed_for="the test") is json


def test_a_missing_package_names_the_command():
    with pytest.raises(MissingExtraError) as caught:
        require("no_such_package.part", extra="data", needed_for="reading digits")
    assert str(caught.value) == (
        "reading digits needs the package 'no_such_package', which is not installed. "
        "Install it with: pip install 'fluxmod[data]'"
    )
    assert isinstance(caught.value, ImportError)


def test_a_broken_package_keeps_its_own_error(tmp_path, monkeypatch):
    (tmp_path / "broken_package.py").write_text("import its_missing_dependency\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="its_missing_dependency") as caught:
        require("broken_package", extra="data", needed_for="the test")
    assert not isinstance(caught.value, MissingExtraError)
    assert "broken_package" not in sys.modules
