"""``fluxmod models``: the note models and layers."""

from __future__ import annotations

__all__ = ["run"]


def run() -> None:
    """List the models that exist in both frameworks."""
    from rich.console import Console
    from rich.table import Table

    from fluxmod.models import CATALOG

    table = Table("name", "note", "built from", "inputs in torch's layout")
    for row in CATALOG:
        inputs = ", ".join(f"({', '.join(map(str, i.shape))})" for i in row.inputs)
        table.add_row(row.name, row.note, row.target_path, inputs)
    Console().print(table)
