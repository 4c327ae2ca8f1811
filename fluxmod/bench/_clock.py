"""Timing: all variants of a row in turns, medians of many rounds."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count

from ._case import Case
from ._memory import extra_memory
from ._variants import Fluxmod, PlainNnx, Torch

__all__ = ["JOBS", "OURS", "REFERENCE", "Row", "Unavailable", "compare", "matmul_peak"]

MINIMUM_SECONDS = 0.02
"""A timing covers at least this much work: short calls are repeated within one timing."""
SLOW_SECONDS, SLOW_ROUNDS = 2.0, 3
"""A call longer than this is timed in so many rounds alone: some take minutes."""
LONG_STEP_MS = 50.0
"""Dispatch is nothing beside such a step: it is not run many at a time."""
CHUNK = 16
REFERENCE, OURS = "torch eager", "fluxmod"
Job = Literal["infer", "train"]
JOBS: tuple[Job, ...] = get_args(Job)


class Unavailable(str):
    """Why a variant cannot run on this machine; shown in its column."""


@dataclass(frozen=True)
class Row:
    """One case, one job: what each variant took.

    Attributes:
        ms: milliseconds per call, medians over the rounds.
        speedup: torch eager's time over each variant's, in the same round; medians.
        spread: first and third quartile of that ratio.
        first_call: seconds of the first call, in which a variant compiles.
        memory: MB that a call takes, at its highest, above what it finds and leaves; where the
            system tells.
        gflop: floating point operations of a call, in 1e9, as torch counts them.
        unavailable: variants that could not run, and why.
    """

    model: str
    batch: int
    job: Job
    ms: dict[str, float]
    speedup: dict[str, float]
    spread: dict[str, tuple[float, float]]
    first_call: dict[str, float]
    memory: dict[str, float]
    gflop: float
    rounds: int
    unavailable: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Row:
        """What ``to_json`` gave, also after a file of JSON."""
        spread = {name: (low, high) for name, (low, high) in value["spread"].items()}
        return cls(**{**value, "spread": spread})

    def rate(self, name: str) -> float:
        """What a variant attains, in GFLOP/s."""
        return self.gflop / self.ms[name] * 1e3


def compare(
    case: Case,
    *,
    rounds: int = 21,
    jobs: tuple[Job, ...] = JOBS,
    torch_compile: bool = True,
) -> list[Row]:
    """Time a case in all its variants, interleaved; a row for each job.

    Args:
        case: the model and its inputs.
        rounds: timings of each variant.
        jobs: "infer", a call in evaluation mode; "train", a step of Adam.
        torch_compile: whether ``torch.compile`` is one of the variants; it needs a C++ compiler.

    >>> case = Case("linear", lambda: torch.nn.Linear(4, 2), (torch.ones(3, 4),))
    >>> (row,) = compare(case, rounds=2, jobs=("infer",), torch_compile=False)
    >>> sorted(row.ms)
    ['fluxmod', 'torch eager']
    """
    variants: dict[str, Any] = {}
    failed: dict[str, str] = {}
    for name, make in _makers(case, torch_compile).items():
        made = make()
        (failed if isinstance(made, Unavailable) else variants)[name] = made
    return [_row(case, job, variants, failed, rounds) for job in jobs]


def _makers(case: Case, torch_compile: bool) -> dict[str, Callable[[], Any]]:
    from fluxmod.doctor import cxx_compiler

    makers: dict[str, Callable[[], Any]] = {REFERENCE: partial(Torch, case)}
    if case.images:
        makers["torch channels_last"] = partial(Torch, case, last=True)
    if torch_compile and cxx_compiler() is None:
        makers["torch.compile"] = partial(Unavailable, "no C++ compiler")
    elif torch_compile:
        makers["torch.compile"] = partial(Torch, case, compiled=True)
    if case.plain is not None:
        makers["plain nnx"] = partial(PlainNnx, case, case.plain)
    makers[OURS] = partial(Fluxmod, case)
    makers[f"{OURS}, {CHUNK} steps a dispatch"] = partial(Fluxmod, case, chunk=CHUNK)
    return makers


def _row(
    case: Case, job: Job, variants: dict[str, Any], failed: dict[str, str], rounds: int
) -> Row:
    calls: dict[str, _Call] = {}
    first_call: dict[str, float] = {}
    memory: dict[str, float] = {}
    unavailable = dict(failed)
    for name, variant in variants.items():
        if job == "infer" and variant.chunk > 1:
            continue  # a chunk is of training steps
        if variant.chunk > 1 and OURS in calls and calls[OURS].ms > LONG_STEP_MS:
            unavailable[name] = "a step is long"
            continue
        run = getattr(variant, job)
        start = time.perf_counter()
        try:
            run(variant.chunk)
        except Exception as error:  # torch.compile refuses some models; the row says so
            if name == REFERENCE:
                raise
            unavailable[name] = f"{type(error).__name__}: {str(error).splitlines()[0][:80]}"
            continue
        first_call[name] = round(time.perf_counter() - start, 3)
        taken = extra_memory(partial(run, variant.chunk))  # and a call without compilation
        if taken is not None:
            memory[name] = round(taken, 1)
        calls[name] = _Call.of(run, variant.chunk, rounds)
    times: dict[str, dict[int, float]] = {name: {} for name in calls}
    for number in range(rounds):
        for name, call in calls.items():
            if number % call.every == 0:
                start = time.perf_counter()
                call.run(call.repeats)
                times[name][number] = (time.perf_counter() - start) / call.repeats * 1e3
    ratios = {
        name: [times[REFERENCE][n] / ours for n, ours in taken.items() if n in times[REFERENCE]]
        for name, taken in times.items()
    }
    return Row(
        model=case.name,
        batch=case.batch,
        job=job,
        ms={name: round(statistics.median(t.values()), 4) for name, t in times.items()},
        speedup={name: round(statistics.median(values), 3) for name, values in ratios.items()},
        spread={name: _quartiles(values) for name, values in ratios.items()},
        first_call=first_call,
        memory=memory,
        gflop=_gflop(getattr(variants[REFERENCE], job)),
        rounds=rounds,
        unavailable=unavailable,
    )


@dataclass(frozen=True)
class _Call:
    """A variant's call: how long it takes, how many make a timing, which rounds it joins."""

    run: Callable[[int], None]
    ms: float
    repeats: int
    every: int

    @classmethod
    def of(cls, run: Callable[[int], None], chunk: int, rounds: int) -> _Call:
        start = time.perf_counter()
        run(chunk)
        seconds = max((time.perf_counter() - start) / chunk, 1e-7)
        repeats = max(max(int(MINIMUM_SECONDS / seconds), 1) // chunk, 1) * chunk
        every = 1 if seconds < SLOW_SECONDS else math.ceil(rounds / SLOW_ROUNDS)
        return cls(run, seconds * 1e3, repeats, every)


def _quartiles(values: list[float]) -> tuple[float, float]:
    low, high = np.quantile(values, [0.25, 0.75])
    return round(float(low), 3), round(float(high), 3)


def _gflop(run: Callable[[int], None]) -> float:
    """Operations of matrix products and convolutions in one call; a multiply-add is two."""
    known: Any = {torch.ops.aten.convolution_backward: _gradients_of_convolution}
    with FlopCounterMode(display=False, custom_mapping=known) as counter:
        run(1)
    return counter.get_total_flops() / 1e9


def _gradients_of_convolution(grad: Any, x: Any, kernel: Any, *rest: Any, **_: Any) -> int:
    """Each gradient is as many operations as the convolution; torch counts groups as dense."""
    transposed, wanted = rest[4], rest[7]
    return int(conv_flop_count(x, kernel, grad, transposed)) * sum(wanted[:2])


def matmul_peak(size: int = 1536, rounds: int = 15) -> float:
    """The best rate of a square float32 product in torch on this machine, in GFLOP/s."""
    a = torch.ones(size, size)
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        a @ a
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / min(seconds) / 1e9
