"""Torch's own samples of operators through the porter: values and gradients in float64.

``aten_ops.csv`` lists the operators that 207 public models use once they are captured, and how many
models use each. Every entry of ``op_db`` that reaches one of them, or has its name, is run.
"""

from __future__ import annotations

import csv
import itertools
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch.testing._internal.common_methods_invocations import op_db
from torch.utils._pytree import tree_flatten, tree_unflatten

from fluxmod import porter
from fluxmod._errors import CaptureError, UnsupportedOpError
from fluxmod.porter import write
from parity_tests.compare import same

OPERATORS = {
    row["op"]: int(row["models_using"])
    for row in csv.DictReader(Path(__file__).with_name("aten_ops.csv").read_text().splitlines())
}
"""Operators with their overloads, and the number of models that use each."""

NAMES = {op.removeprefix("aten.").partition(".")[0].rstrip("_") for op in OPERATORS}

RECORDS = Path(__file__).parents[2] / "out" / "porter-operators"

NO_VALUES = {
    "empty_like": "uninitialised memory",
    "new_empty": "uninitialised memory",
    "nn.functional.dropout": "random; replayed masks are compared by the certificate",
}
"""Entries whose results cannot be compared, with the reason."""


FIRST = 30
"""Samples that the short suite chooses from; some entries have more than a thousand."""


class _Tensor:
    """Where a tensor stands in the arguments of a sample."""


class One(torch.nn.Module):
    """One operator as a module; its arguments that are no tensors are fixed."""

    def __init__(self, op: Any, structure: Any, leaves: list[Any]) -> None:
        super().__init__()
        self.op, self.structure, self.leaves = op, structure, leaves

    def forward(self, *tensors: torch.Tensor) -> Any:
        given = iter(tensors)
        leaves = [next(given) if leaf is _Tensor else leaf for leaf in self.leaves]
        args, kwargs = tree_unflatten(leaves, self.structure)
        return self.op(*args, **kwargs)


@dataclass
class Result:
    """What became of an entry's samples."""

    available: int = 0
    run: int = 0
    worst: float = 0.0
    refused: dict[str, int] = field(default_factory=dict)
    reached: set[str] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)


def entries() -> dict[str, Any]:
    """Entries of ``op_db`` by name and variant."""
    found = {}
    for op in op_db:
        plain = op.name.split(".")[-1]
        if {op.name, plain, op.aten_name} & NAMES and dtype_of(op) is not None:
            variant = f"[{op.variant_test_name}]" if op.variant_test_name else ""
            found[op.name + variant] = op
    return found


def dtype_of(op: Any) -> torch.dtype | None:
    """The dtype to run an operator in: float64 where it has one."""
    return next((d for d in (torch.float64, torch.int64, torch.bool) if d in op.dtypes), None)


def run(op: Any, most: int, *, every: bool) -> Result:
    """Port and compare ``most`` of an entry's samples, evenly chosen: of all, or of the first."""
    torch.manual_seed(0)
    drawn = itertools.islice(op.sample_inputs("cpu", dtype_of(op)), None if every else FIRST)
    samples = [sample for sample in drawn if not sample.kwargs.get("dropout_p")]
    result = Result(available=len(samples))
    step = max(len(samples) // most, 1)
    for index, sample in list(enumerate(samples))[::step][:most]:
        leaves, structure = tree_flatten(((sample.input, *sample.args), sample.kwargs))
        tensors = [leaf.detach() for leaf in leaves if isinstance(leaf, torch.Tensor)]
        rest = [_Tensor if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves]
        module = One(op.op, structure, rest).eval()
        label = f"{op.name}-{index} {[tuple(t.shape) for t in tensors]} {shown(rest)}"
        try:
            with recorded(result.reached):
                result.worst = max(result.worst, compare(module, tensors))
            result.run += 1
        except (UnsupportedOpError, CaptureError) as error:
            reason = reason_of(error)
            result.refused[reason] = result.refused.get(reason, 0) + 1
        except Exception as error:  # every sample is reported, whatever it failed with
            text = " ".join(str(error).split())[:250]
            result.problems.append(f"{label}: {type(error).__name__}: {text}")
    return result


def shown(rest: list[Any]) -> str:
    return str([leaf for leaf in rest if leaf is not _Tensor])[:80]


def reason_of(error: Exception) -> str:
    """The line that names the obstacle."""
    lines = str(error).splitlines()
    return next((line.strip() for line in lines[1:] if line.strip()), lines[0])


@contextmanager
def recorded(reached: set[str]) -> Iterator[None]:
    """Note the operators that the writer looks up."""
    before = write.rule_of

    def look(target: str) -> Any:
        reached.add(target if target.startswith("aten.") else f"aten.{target}")
        return before(target)

    write.rule_of = look
    try:
        yield
    finally:
        write.rule_of = before


def compare(module: One, tensors: list[torch.Tensor]) -> float:
    """Outputs, and gradients of a random functional of them; the worst relative error."""
    with jax.enable_x64(True), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        floats = [i for i, t in enumerate(tensors) if t.is_floating_point()]
        given = [t.clone().requires_grad_(i in floats) for i, t in enumerate(tensors)]
        try:
            want = module(*given)
        except RuntimeError:  # an argument that torch takes without a gradient alone
            given = [t.clone() for t in tensors]
            want = module(*given)
        want = [t for t in tree_flatten(want)[0] if isinstance(t, torch.Tensor)]
        ported = porter.port(module, *tensors, options=porter.Options(layout="torch"))
        arrays = [jnp.asarray(t.numpy()) for t in tensors]
        rng = np.random.default_rng(0)
        weights = [
            rng.standard_normal(tuple(t.shape)) if t.requires_grad and not t.is_complex() else None
            for t in want
        ]

        def total(chosen: list[jax.Array]) -> Any:
            everything = list(arrays)
            for i, x in zip(floats, chosen, strict=True):
                everything[i] = x
            out = jax.tree.leaves(ported(*everything))
            pairs = [(o, w) for o, w in zip(out, weights, strict=True) if w is not None]
            return sum((jnp.vdot(o, w) for o, w in pairs), start=jnp.zeros(())), out

        grads, got = jax.grad(total, has_aux=True)([arrays[i] for i in floats])
        for i, (g, w) in enumerate(zip(got, want, strict=True)):
            kinds = str(g.dtype), str(w.dtype).removeprefix("torch.")
            integers = all(kind.startswith("int") for kind in kinds)  # int32 stands for int64
            assert integers or kinds[0] == kinds[1], f"output {i} is {kinds[0]}, torch's {kinds[1]}"
        if any(w is not None for w in weights):
            parts = zip(want, weights, strict=True)
            try:
                sum((o * torch.from_numpy(w)).sum() for o, w in parts if w is not None).backward()
            except RuntimeError as error:
                if not re.search("not implemented|not differentiable", str(error)):
                    raise  # torch has no derivative of everything
        slopes = {f"gradient {i}": (g, given[i].grad) for i, g in zip(floats, grads, strict=True)}
        slopes = {
            k: (g, t.to_dense() if t.is_sparse else t)
            for k, (g, t) in slopes.items()
            if t is not None
        }
        mine = {f"output {i}": np.asarray(g) for i, g in enumerate(got)}
        theirs = {f"output {i}": w.detach().resolve_conj() for i, w in enumerate(want)}
        return same(
            {**mine, **{k: np.asarray(g) for k, (g, _) in slopes.items()}},
            {**theirs, **{k: t for k, (_, t) in slopes.items()}},
        )
