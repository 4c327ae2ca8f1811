"""``fluxmod parity``: certificates of the note models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

__all__ = ["run"]


def run(
    models: Annotated[
        list[str] | None, typer.Argument(help="Names from `fluxmod models`; all when none given.")
    ] = None,
    device: Annotated[Literal["cpu", "gpu"], typer.Option(help="gpu adds level L3.")] = "cpu",
    json: Annotated[Path | None, typer.Option(help="Write all comparisons to this file.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write one page with plots.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of weights and inputs.")] = 0,
) -> None:
    """Prove that both implementations of each model are equal; exit 1 if one is not."""
    from rich.console import Console
    from rich.progress import Progress

    from fluxmod.models import CATALOG
    from fluxmod.parity.suite import Suite, certify_all

    try:
        pending = certify_all(models or (), seed=seed, device=device)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    reports = []
    with Progress(transient=True, console=Console(stderr=True)) as progress:
        task = progress.add_task("certifying", total=len(models or CATALOG))
        for report in pending:
            reports.append(report)
            progress.update(task, advance=1, description=f"certified {report.model}")
    suite = Suite(tuple(reports))
    console = Console()
    if not console.is_terminal:
        console.width = PIPED_WIDTH
    console.print(_table(suite))
    for report in suite.reports:
        if not report.passed:
            print(report.text())
    for path, text in ((json, suite.to_json), (html, suite.to_html)):
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text(), encoding="utf-8")
            print(f"wrote {path}")
    equal = sum(report.passed for report in suite.reports)
    print(f"{equal} of {len(suite.reports)} equal")
    raise typer.Exit(0 if suite.passed else 1)


PIPED_WIDTH = 120
"""Columns of the table where no terminal says how many there are."""


def _table(suite: Any) -> Any:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from fluxmod.parity import CRITERIA

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    widths = {"model": 20, "level": 13, "worst error": 11, "limit": 7, "verdict": 7}
    for name, width in widths.items():
        table.add_column(name, no_wrap=True, min_width=width)
    table.add_column("where", no_wrap=True, overflow="ellipsis")
    for report in suite.reports:
        for index, (level, rows) in enumerate(report.by_level().items()):
            name = "" if index else report.model
            worst = report.worst(level)
            shows = f"{level} {CRITERIA[level].shows}"
            if worst is None:
                table.add_row(name, shows, "-", "-", "[dim]skip[/]", rows[0].note)
                continue
            passed = all(row.passed is not False for row in rows)
            verdict = "[green]pass[/]" if passed else "[red]FAIL[/]"
            place = f"{worst.path}: {worst.what}" if worst.path else worst.what
            numbers = (f"{worst.error:.1e}", f"{worst.limit:.1e}")
            table.add_row(name, shows, *numbers, verdict, f"{place} ({worst.where})")
        table.add_section()
    return table
