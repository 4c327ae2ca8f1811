"""Packages that only some uses need, imported on request."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from fluxmod._errors import MissingExtraError

__all__ = ["require"]


def require(name: str, *, extra: str, needed_for: str) -> ModuleType:
    """Import and return the optional package ``name``.

    Args:
        extra: the extra of fluxmod that installs it.
        needed_for: what cannot be done without it, to continue "... needs the package".

    Raises:
        MissingExtraError: it is not installed; the message holds the command that installs it. A
            package that is there and fails to import one of its own dependencies keeps its error.

    >>> require("json", extra="torch", needed_for="this example").dumps([1])
    '[1]'
    """
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        package = name.partition(".")[0]
        raise MissingExtraError(
            f"{needed_for} needs the package {package!r}, which is not installed. "
            f"Install it with: pip install 'fluxmod[{extra}]'"
        ) from error
