"""``fluxmod port``: a torch class in, a file of Flax source out, with its certificate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from ._target import drawn_inputs, find

__all__ = ["run"]


def run(
    target: Annotated[
        str,
        typer.Argument(help="pkg.module:Class, a function that builds it, or a model's folder."),
    ],
    input: Annotated[
        list[str],
        typer.Option(help="float32[2,3,224,224]; int64[2,16]<1000 below 1000; mask=bool[2,16]."),
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The file to write.")
    ] = None,
    init: Annotated[str, typer.Option(help="Constructor arguments as JSON.")] = "{}",
    weights: Annotated[Path | None, typer.Option(help="Also write the weights here.")] = None,
    layout: Annotated[Literal["flax", "torch"], typer.Option(help="Outer order.")] = "flax",
    dynamic: Annotated[
        list[str] | None,
        typer.Option(help="Axes of an input whose size is free, in torch's order: x=0,2,3."),
    ] = None,
    override: Annotated[
        list[str] | None,
        typer.Option(help="ns::op=pkg.module:function, or pkg.module:Torch=pkg.module:Flax."),
    ] = None,
    scan: Annotated[
        bool, typer.Option("--scan", help="Loops over equal blocks become nnx.scan.")
    ] = False,
    coverage: Annotated[
        bool, typer.Option("--coverage", help="Only say what the model needs; write nothing.")
    ] = False,
    standalone: Annotated[
        bool, typer.Option("--standalone", help="The file needs jax and flax, not fluxmod.")
    ] = False,
    check: Annotated[bool, typer.Option(help="End with the certificate.")] = True,
) -> None:
    """Turn a torch module into Flax source; exit 1 if it cannot be done or is not equal."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn

    from fluxmod import convert, parity, porter

    if output is None and not coverage:
        raise typer.BadParameter("expected --output FILE, or --coverage to write nothing.")
    try:
        build = find(target, init)
        args, kwargs = drawn_inputs(input)
        options = porter.Options(
            layout=layout,
            dynamic={k: tuple(map(int, v.split(","))) for k, v in _pairs(dynamic)} or None,
            overrides=dict(_pairs(override)),
            scan=scan,
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    torch_module = build()
    if output is None or coverage:
        found = porter.coverage(torch_module, *args, options=options, **kwargs)
        print(found.text())
        raise typer.Exit(0 if found.ready else 1)
    columns = (SpinnerColumn(), TextColumn("{task.description}"))
    with Progress(*columns, transient=True, console=Console(stderr=True)) as progress:
        task = progress.add_task("tracing and writing")
        model = porter.port(torch_module, *args, options=options, **kwargs)
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(porter.source(model, standalone=standalone), encoding="utf-8")
        if weights is not None:
            progress.update(task, description="writing weights")
            convert.save(model, weights)
        report = None
        if check:
            progress.update(task, description="certifying")
            levels = parity.Options(levels=("L0", "L1", "L2"))
            report = parity.check(torch_module, model, *args, options=levels, **kwargs)
    print(f"wrote {output}" + (f" and {weights}" if weights else ""))
    for note in porter.notes(model):
        print(f"note: {note}")
    if report is not None:
        print(report.text())
        raise typer.Exit(0 if report.passed else 1)


def _pairs(texts: list[str] | None) -> list[tuple[str, str]]:
    """``name=value`` options."""
    for text in texts or ():
        if "=" not in text:
            raise ValueError(f"{text!r}: expected name=value.")
    return [(k, v) for k, _, v in (text.partition("=") for text in texts or ())]
