"""``fluxmod bench``: a torch class and its port, timed side by side."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from ._target import drawn_inputs, find, imported

__all__ = ["run"]


def run(
    target: Annotated[
        str | None,
        typer.Argument(help="pkg.module:Class, a function that builds it, or a model's folder."),
    ] = None,
    input: Annotated[
        list[str] | None,
        typer.Option(help="float32[8,3,224,224]; int64[8,16]<1000 below 1000; mask=bool[8,16]."),
    ] = None,
    init: Annotated[str, typer.Option(help="Constructor arguments as JSON.")] = "{}",
    rounds: Annotated[int, typer.Option(help="Timings of each variant.", min=2)] = 21,
    threads: Annotated[
        int, typer.Option(help="Threads of torch; 0: all cores, as XLA has.", min=0)
    ] = 0,
    compile: Annotated[
        bool, typer.Option(help="Time torch.compile too; it needs a C++ compiler.")
    ] = True,
    conv: Annotated[
        bool, typer.Option("--conv", help="Time convolutions alone; takes no target.")
    ] = False,
    models: Annotated[
        list[str] | None,
        typer.Option(help="A model of the suite in benchmarks/, or all; takes no target."),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Also write the rows to this file.")
    ] = None,
) -> None:
    """Time inference and a training step in torch and in Flax; all variants take turns."""
    from rich.console import Console

    if bool(target) + conv + bool(models) != 1:
        raise typer.BadParameter("expected one of: a target, --conv, --models.")
    if models:
        _suite(models, rounds, threads, compile, json_file)
        return
    if target is None:
        _convolutions(threads, rounds)
        return
    try:
        args, kwargs = drawn_inputs(input or [])
        build = find(target, init)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None

    import torch

    from fluxmod import bench

    torch.set_num_threads(threads or os.cpu_count() or 1)
    case = bench.Case(target.rpartition(":")[2], build, args, kwargs)
    with Console(stderr=True).status("timing"):
        rows = bench.compare(case, rounds=rounds, torch_compile=compile)
        peak = bench.matmul_peak()
    print(bench.markdown(rows, peak=peak))
    if json_file is not None:
        bench.save(rows, json_file, bench.facts(peak))
        print(f"wrote {json_file}")


def _suite(
    models: list[str], rounds: int, threads: int, compile: bool, json_file: Path | None
) -> None:
    """Run the models of a checkout's own benchmark."""
    try:
        suite = imported("benchmarks.suite:run")
    except typer.BadParameter as error:
        raise typer.BadParameter(
            f"--models: expected to be called in a checkout of fluxmod, which has benchmarks/, got "
            f"{Path.cwd()} ({error}). Change to one, or name a class."
        ) from None
    names = [name for given in models for name in given.split(",")]
    try:
        suite(
            () if "all" in names else names,
            json=json_file,
            rounds=rounds,
            threads=threads,
            compile=compile,
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _convolutions(threads: int, rounds: int) -> None:
    import torch

    from fluxmod import bench

    torch.set_num_threads(threads or os.cpu_count() or 1)
    print("Milliseconds: forward / forward and both gradients.\n")
    print(bench.convolutions(rounds=rounds))
