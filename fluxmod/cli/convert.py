"""``fluxmod convert``: weights from one file to another, checked against a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["run"]


def run(
    source: Annotated[Path, typer.Argument(help="Weights in torch's names: a file or folder.")],
    target: Annotated[Path, typer.Argument(help="The file to write (.safetensors or .pt).")],
    model: Annotated[str, typer.Option(help="A name that `fluxmod models` lists.")],
    cast: Annotated[bool, typer.Option(help="Convert dtypes to the model's.")] = False,
    assign: Annotated[bool, typer.Option(help="Keep the source's dtypes.")] = False,
) -> None:
    """Load weights into a note model, strictly, and write them again; nothing is half-written."""
    from flax import nnx

    if cast and assign:
        raise typer.BadParameter("--cast keeps the model's dtypes, --assign the source's.")
    from fluxmod import convert
    from fluxmod.models import entry

    try:
        row = entry(model)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    flax_model = row.flax(nnx.Rngs(0))
    plan = convert.to_flax(source, flax_model, cast=cast, assign=assign)
    convert.save(flax_model, target)
    print(f"{plan.text()}\nwrote {target}")
