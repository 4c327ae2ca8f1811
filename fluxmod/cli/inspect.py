"""``fluxmod inspect``: what a weight file holds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["run"]


def run(file: Annotated[Path, typer.Argument(help="A weight file or folder.")]) -> None:
    """List keys, shapes and dtypes of a .safetensors, .pt or .bin file or folder."""
    from fluxmod import convert

    print(convert.describe(file))
