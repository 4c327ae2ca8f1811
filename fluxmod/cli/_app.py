"""Assembling the verbs, and turning fluxmod's own errors into one message and an exit code.

Exit codes: 0 equal or done, 1 differs or incomplete, 2 usage.
"""

from __future__ import annotations

import sys

import typer

from fluxmod._errors import FluxmodError

from . import bench, convert, doctor, inspect, models, parity, port

__all__ = ["app", "main"]

app = typer.Typer(
    name="fluxmod",
    help="Move PyTorch models to JAX/Flax, and prove the result.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for verb in (bench, convert, doctor, inspect, models, parity, port):
    app.command(verb.__name__.rpartition(".")[2])(verb.run)


def main() -> None:
    """Run the command line."""
    try:
        app()
    except FluxmodError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        raise SystemExit(1) from None
