"""``fluxmod doctor``: what is installed, which devices, which precision flags."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["run"]


def run(
    json: Annotated[Path | None, typer.Option(help="Write the findings to this file too.")] = None,
) -> None:
    """Show versions, devices, x64 and precision flags, and the torch build."""
    from fluxmod.doctor import diagnose

    diagnosis = diagnose()
    print(diagnosis.text())
    if json is not None:
        json.write_text(diagnosis.to_json())
