"""The command line: one file per verb, each a thin skin over a public function."""

from __future__ import annotations

from ._app import main as main

__all__ = ["main"]
