"""The public surface of a package is the list that somebody wrote in its ``__init__``."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = (
    "fluxmod",
    "fluxmod.nn",
    "fluxmod.nn.functional",
    "fluxmod.nn.init",
    "fluxmod.nn.parallel",
    "fluxmod.optim",
    "fluxmod.optim.lr_scheduler",
    "fluxmod.optim.swa_utils",
    "fluxmod.train",
    "fluxmod.models.flax",
    "fluxmod.models.torch",
    "fluxmod.convert",
    "fluxmod.parity",
)


def is_own(value: object, package: str) -> bool:
    """Whether a value was defined in the package, not just imported for use there."""
    if isinstance(value, ModuleType):
        return False
    home = getattr(value, "__module__", package)
    return f"{home}.".startswith(f"{package}.")


def written_but_wrong(module: ModuleType) -> dict[str, list[str]]:
    """Compare ``__all__`` with what the module offers; an empty dict means that they agree."""
    written = list(module.__all__)
    offered = {
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and is_own(value, module.__name__)
    }
    findings = {
        "not sorted": [] if written == sorted(written) else written,
        "twice": sorted({name for name in written if written.count(name) > 1}),
        "not there": [name for name in written if not hasattr(module, name)],
        "not written": sorted(offered - set(written)),
    }
    return {what: names for what, names in findings.items() if names}


@pytest.mark.parametrize(
    "name", [p for p in PACKAGES if ROOT.joinpath(*p.split("."), "__init__.py").is_file()]
)
def test_all_agrees_with_what_is_there(name):
    assert written_but_wrong(import_module(name)) == {}


def test_the_check_can_fail():
    module = ModuleType("planted")
    module.here = module.forgotten = 1
    module.only_used = ModuleType
    module.__all__ = ["missing", "here", "here"]
    assert written_but_wrong(module) == {
        "not sorted": ["missing", "here", "here"],
        "twice": ["here"],
        "not there": ["missing"],
        "not written": ["forgotten"],
    }
