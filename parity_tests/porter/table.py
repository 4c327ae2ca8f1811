"""What the porter makes of every model that the suite ports.

``python -m parity_tests.porter.table docs/porter-table.md`` writes the table; names of models after
it renew their lines alone. Lines are counted
alike on both sides: formatted to 100 columns, without blank lines, comments, docstrings and
imports; torch's are those of the classes used and their own base classes.
"""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
import textwrap
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import torch

from fluxmod import parity, porter
from fluxmod.models import CATALOG
from fluxmod.porter.port import of
from parity_tests.porter import hub
from parity_tests.porter.zoo import ZOO

LEVELS = ("L0", "L1", "L5")


@dataclass(frozen=True)
class Line:
    """One model: sizes on both sides, time to port, certificate."""

    name: str
    classes: tuple[int, int]
    lines: tuple[int, int]
    seconds: float
    worst: float | None
    verdict: str


def counted(text: str) -> int:
    """Lines of code: formatted, without docstrings, imports and ``__all__``."""
    tree = ast.parse(textwrap.dedent(text))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if not isinstance(body, list):
            continue
        node.body = [s for s in body if not _silent(s)] or [ast.Pass()]  # type: ignore[attr-defined]
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "format", "--isolated", "--line-length", "100", "-"],
        input=ast.unparse(tree), capture_output=True, text=True, check=True,
    )  # fmt: skip
    return sum(bool(line.strip()) for line in done.stdout.splitlines())


def _silent(node: ast.stmt) -> bool:
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return True
    if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
        return True
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def torch_classes(model: torch.nn.Module) -> list[type]:
    """The classes of a model that are not torch's own, bases included."""
    kinds = {c for m in model.modules() for c in type(m).__mro__}
    own = [c for c in kinds if issubclass(c, torch.nn.Module) and not _library(c)]
    return sorted(own, key=lambda c: c.__qualname__)


def _library(cls: type) -> bool:
    framework = ("PreTrainedModel", "GradientCheckpointingLayer")
    return cls.__module__.startswith("torch.") or cls.__name__ in framework


def line(name: str, model: torch.nn.Module, args: Any, kwargs: dict[str, Any]) -> Line:
    """Port one model and certify it."""
    start = time.perf_counter()
    ported = porter.port(model, *args, **kwargs)
    seconds = time.perf_counter() - start
    own = torch_classes(model)
    theirs = sum(counted(inspect.getsource(c)) for c in own)
    info = of(ported)
    options = parity.Options(levels=LEVELS)
    worst, verdict = _certificate(model, ported, args, kwargs, options)
    return Line(
        name,
        (info.classes if own else 0, len(own)),
        (counted(info.text) if own else 0, theirs),
        seconds,
        worst,
        verdict,
    )


def _certificate(
    model: torch.nn.Module, ported: Any, args: Any, kwargs: Any, options: parity.Options
) -> tuple[float | None, str]:
    """The worst error and the verdict; some models cannot run in float64, or not with gradients."""
    try:
        report = parity.check(model, ported, *args, options=options, **kwargs)
    except RuntimeError as error:
        why = {"Double": "an operator of torch has no float64", "leaf": "it takes no gradient"}
        found = next((text for word, text in why.items() if word in str(error)), None)
        if found is None:
            raise
        return None, f"not certified: {found}"
    worst = report.worst("L1")
    failed = ", ".join(sorted({row.level for row in report.failures}))
    return (
        0.0 if worst is None else worst.error,
        "equal" if report.passed else f"NOT equal: {failed}",
    )


def models() -> Iterator[tuple[str, torch.nn.Module, tuple[Any, ...], dict[str, Any]]]:
    """Every model that the suite ports."""
    for name, entry in ZOO.items():
        yield name, *entry.make(), {}
    for row in CATALOG:
        torch.manual_seed(0)
        args, kwargs = row.make(3)
        yield (
            f"note: {row.name}", row.torch(), tuple(map(_tensor, args)),
            {k: _tensor(v) for k, v in kwargs.items()},
        )  # fmt: skip
    for name in hub.HUB:
        model, inputs = hub.make(name)
        yield f"transformers: {name}", model, (), inputs


def _tensor(value: Any) -> Any:
    return torch.from_numpy(value) if isinstance(value, np.ndarray) else value


def shown(x: Line) -> str:
    """One line of the table."""
    numbers = []
    for ours, theirs in (x.classes, x.lines):
        ratio = f"{ours / theirs:.2f}" if theirs else ""
        numbers += [str(ours or ""), str(theirs or ""), ratio]
    worst = "" if x.worst is None else f"{x.worst:.0e}"
    return f"| {' | '.join([x.name, *numbers, f'{x.seconds:.1f}', worst, x.verdict])} |"


def table(rows: list[str]) -> str:
    """The document."""
    about = (__doc__ or "").partition("\n\n")[2].strip().replace("``", "`")
    head = [
        "# Every model that the suite ports",
        "",
        about,
        "",
        "`L1` is the worst of outputs, gradients and buffers in float64, in both modes and two",
        "batch sizes; 1e-10 is allowed, 4e-6 where torch's own code casts to float32. A layer or",
        "container alone has no class of its own.",
        "",
        "| model | classes | of torch's | ratio | lines | of torch's | ratio | port, s | L1 | |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    return "\n".join([*head, *rows, ""])


def main(target: str, *wanted: str) -> None:
    """Write the table; names restrict what is run."""
    warnings.simplefilter("ignore")
    path = Path(target)
    before = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    known = {row.split(" | ")[0].removeprefix("| "): row for row in before if row.startswith("| ")}
    order = []
    for name, model, args, kwargs in models():
        order.append(name)
        if not wanted or name in wanted:
            known[name] = shown(line(name, model, args, kwargs))
            print(known[name], flush=True)
            jax.clear_caches()  # a process can hold so many programs and no more
    path.write_text(table([known[name] for name in order if name in known]), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
