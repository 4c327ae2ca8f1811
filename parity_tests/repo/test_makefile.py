"""The Makefile's promises, with an interpreter that only pretends to install.

The pretended python answers the Makefile's questions, makes a virtual environment that holds
nothing but itself, and writes down what pip and the other programs were called with.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")

PRETENDER = """#!/bin/sh
case "$*" in
  "-m venv "*) for last; do :; done
      case "$*" in *--clear*) rm -rf "$last";; esac
      mkdir -p "$last/bin" && cp "$0" "$last/bin/python"
      for tool in ruff mypy; do cp "$0" "$last/bin/$tool"; done;;
  *"sys.exit(sys.version_info"*"venv"*) exit {old_or_bare};;
  *"import sys, venv, ensurepip"*) exit {old_or_bare};;
  *"import venv, ensurepip"*) exit {bare};;
  *"print("*) echo {version};;
  *"sys.exit(sys.version_info"*) exit {old};;
  "--version") echo "Python {version}.9";;
  "-m pip "*) echo "$*" >> {log}; exit $(cat {log}.rc 2>/dev/null || echo 0);;
  *) echo "$*" >> {log};;
esac
"""


@dataclass(frozen=True)
class Checkout:
    """A copy of the files that the Makefile reads, and a PATH with chosen interpreters only."""

    root: Path

    @property
    def log(self) -> Path:
        return self.root / "calls.txt"

    def python(self, name: str, version: str = "3.11", *, venv: bool = True) -> Path:
        old = int(tuple(map(int, version.split("."))) < (3, 11))
        bare = int(not venv)
        path = self.root / "path" / name
        path.write_text(
            PRETENDER.format(
                old=old, bare=bare, old_or_bare=old | bare, version=version, log=self.log
            )
        )
        path.chmod(0o755)
        return path

    def make(self, *arguments: str) -> tuple[int, str]:
        """Run make with nothing of this process's environment; return its status and stderr."""
        done = subprocess.run(
            ["make", *arguments],
            cwd=self.root,
            env={"PATH": str(self.root / "path"), "HOME": str(self.root)},
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stderr

    def installs(self) -> list[str]:
        """Return the pip calls since the last question."""
        if not self.log.exists():
            return []
        calls = self.log.read_text().splitlines()
        self.log.unlink()
        return [call for call in calls if call.startswith("-m pip ")]

    def stamps(self) -> set[str]:
        return {p.name for p in (self.root / ".venv").glob(".*") if p.name in STAMPS}

    def let_pip_exit_with(self, status: int) -> None:
        Path(f"{self.log}.rc").write_text(str(status))


STAMPS = {".demo", ".test", ".bench", ".lint"}
TOOLS = ("make", "sh", "cp", "mkdir", "rm", "cat", "sed", "touch", "head", "find")


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
        os.utime(tmp_path / name, (0, 0))
    (tmp_path / "path").mkdir()
    for tool in TOOLS:
        (tmp_path / "path" / tool).symlink_to(shutil.which(tool))
    return Checkout(tmp_path)


def test_demo_installs_torch_and_data_under_the_pins_and_only_once(checkout):
    checkout.python("python3.11")
    assert checkout.make("demo")[0] == 0
    assert checkout.installs() == ["-m pip install -c constraints.txt -e .[torch,data]"]
    assert checkout.make("demo")[0] == 0
    assert checkout.installs() == []


def test_each_set_of_packages_has_its_own_stamp(checkout):
    checkout.python("python3.11")
    sets = {"test": "test", "bench": "bench", "lint": "torch,data,dev", "demo": "torch,data"}
    for target, extras in sets.items():
        assert checkout.make(target)[0] == 0
        assert checkout.installs() == [f"-m pip install -c constraints.txt -e .[{extras}]"]
    assert checkout.stamps() == STAMPS
    assert checkout.make("test", "test-all", "lint", "demo")[0] == 0
    assert checkout.installs() == []


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt"])
def test_a_changed_requirement_installs_again(checkout, name):
    checkout.python("python3.11")
    checkout.make("test")
    checkout.installs()
    os.utime(checkout.root / name)
    assert checkout.make("test")[0] == 0
    assert len(checkout.installs()) == 1


def test_a_failed_install_leaves_no_stamp_and_is_tried_again(checkout):
    checkout.python("python3.11")
    checkout.let_pip_exit_with(1)
    assert checkout.make("test")[0] != 0
    assert checkout.stamps() == set()
    checkout.let_pip_exit_with(0)
    assert checkout.make("test")[0] == 0
    assert len(checkout.installs()) == 2
    assert checkout.stamps() == {".test"}


def test_a_failed_second_install_takes_the_old_stamp_away(checkout):
    checkout.python("python3.11")
    checkout.make("test")
    checkout.let_pip_exit_with(1)
    assert checkout.make("test", "TORCH=torch==0.0")[0] != 0
    assert checkout.stamps() == set()


def test_torch_on_the_make_line_replaces_requirement_and_pin(checkout):
    checkout.python("python3.11")
    other = "TORCH=torch==2.12.*"
    install = "-m pip install -c .venv/constraints.txt torch==2.12.* -e .[torch,data]"
    for arguments, expected in [
        ((other,), [install]),
        ((other,), []),
        ((), ["-m pip install -c constraints.txt -e .[torch,data]"]),
        ((), []),
        ((other,), [install]),
    ]:
        assert checkout.make("demo", *arguments)[0] == 0
        assert checkout.installs() == expected
    pins = (checkout.root / "constraints.txt").read_text().splitlines()
    left = (checkout.root / ".venv" / "constraints.txt").read_text().splitlines()
    assert [line for line in pins if line not in left] == ["torch==2.13.0"]


def test_no_option_of_pip_takes_the_place_of_the_users_own(checkout):
    checkout.python("python3.11")
    checkout.make("test")
    (call,) = checkout.installs()
    assert not {"-i", "--index-url", "--extra-index-url", "--find-links"} & set(call.split())


def test_an_old_interpreter_is_one_clear_message(checkout):
    checkout.python("python3", "3.9")
    status, message = checkout.make("test")
    assert status != 0
    assert message.splitlines()[0] == (
        "fluxmod needs Python 3.11 or newer, and python3 is Python 3.9.9. "
        "Install a newer one, or name one: make PYTHON=/path/to/python3.11 test"
    )
    assert [line[:8] for line in message.splitlines()[1:]] == ["make: **"]
    assert not (checkout.root / ".venv").exists()


def test_no_interpreter_is_one_clear_message(checkout):
    status, message = checkout.make("demo")
    assert status != 0
    assert message.startswith("fluxmod needs Python 3.11 or newer, and no python3 runs here. ")
    assert len(message.splitlines()) == 2


def test_a_missing_venv_module_is_one_clear_message(checkout):
    checkout.python("python3", venv=False)
    status, message = checkout.make("demo")
    assert status != 0
    assert message.startswith("python3 lacks its venv or ensurepip module. Install it ")
    assert "apt install python3-venv" in message
    assert len(message.splitlines()) == 2
    assert not (checkout.root / ".venv").exists()


def test_an_interpreter_that_will_do_is_found(checkout):
    checkout.python("python3", "3.9")
    checkout.python("python3.11", venv=False)
    checkout.python("python3.13", "3.13")
    assert checkout.make("demo")[0] == 0
    assert (checkout.root / ".venv" / ".python").read_text() == "3.13\n"


def test_a_named_interpreter_replaces_one_of_another_version(checkout):
    checkout.python("python3.11")
    checkout.python("python3.12", "3.12")
    checkout.make("test")
    checkout.installs()
    assert checkout.make("test", "PYTHON=python3.12")[0] == 0
    assert (checkout.root / ".venv" / ".python").read_text() == "3.12\n"
    assert len(checkout.installs()) == 1
    assert checkout.make("test", "PYTHON=python3.12")[0] == 0
    assert checkout.make("test")[0] == 0
    assert checkout.installs() == []


def test_an_environment_whose_interpreter_is_gone_is_made_again(checkout):
    checkout.python("python3.11")
    checkout.make("test")
    checkout.installs()
    (checkout.root / ".venv" / "bin" / "python").unlink()
    assert checkout.make("test")[0] == 0
    assert len(checkout.installs()) == 1


def test_clean_removes_the_environment_and_help_lists_the_targets(checkout):
    checkout.python("python3.11")
    checkout.make("test")
    assert checkout.make("clean")[0] == 0
    assert not (checkout.root / ".venv").exists()
    listed = subprocess.run(
        ["make"],
        cwd=checkout.root,
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": os.environ["PATH"]},
    ).stdout
    for target in ("demo", "test", "test-all", "bench", "lint", "clean"):
        assert f"make {target} " in listed
