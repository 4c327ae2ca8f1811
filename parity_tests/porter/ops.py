"""Torch's own samples of operators through the porter: values and gradients.

``aten_ops.csv`` lists the operators that 207 public models use once they are captured, and how many
models use each. Every entry of ``op_db`` that reaches one of them, or has its name, is run in
float64 (L1), float32 (L2), bfloat16 (L6), and with integers and bools where torch takes them.
"""

from __future__ import annotations

import csv
import itertools
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
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
from fluxmod.porter.lower import ALIASES, TABLE
from parity_tests.compare import LIMIT, same
from parity_tests.db.ops import array_of, worst_share

OPERATORS = {
    row["op"]: int(row["models_using"])
    for row in csv.DictReader(Path(__file__).with_name("aten_ops.csv").read_text().splitlines())
}
"""Operators with their overloads, and the number of models that use each."""

NAMES = {op.removeprefix("aten.").partition(".")[0].rstrip("_") for op in OPERATORS}

OPERATORS |= {f"aten.{name}.default": 0 for name in sorted({*TABLE} - NAMES) if "." not in name}
"""And every other one that the porter has a rule for, though none of those models uses it."""

NAMES |= {
    *TABLE,
    *ALIASES,
    "cross_entropy",
    "interpolate",
    "nll_loss",
}  # as op_db calls some of them

RECORDS = Path(__file__).parents[2] / "out" / "porter-operators"

NO_VALUES = {
    "digamma": "torch's own derivative is off by 1e-5 left of zero; test_special compares above",
    "special.digamma": "as digamma",
    "special.psi": "as digamma",
    "empty": "uninitialised memory",
    "empty_like": "uninitialised memory",
    "new_empty": "uninitialised memory",
    "nn.functional.dropout": "random; replayed masks are compared by the certificate",
    **dict.fromkeys(
        (
            "bernoulli",
            "exponential",
            "nn.functional.alpha_dropout",
            "nn.functional.feature_alpha_dropout[with_train]",
            "normal",
            "normal[in_place]",
            "normal[number_mean]",
            "rand_like",
            "randint",
            "randn",
            "randn_like",
            "uniform",
        ),
        "random; distributions are compared in test_random_ops",
    ),
}
"""Entries whose results cannot be compared, with the reason."""


DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.int64, torch.bool)

TIES = ("cummax", "cummin", "kthvalue", "sort", "topk")
"""Operators whose choice among equal elements torch leaves open: of bools, integers and bfloat16,
which have many equal ones, only the values are compared."""

ORDERS = ("argsort",)
"""Operators that give such a choice alone: they run with floats of 32 and 64 bits."""

VALUES = "index .* is out of bounds"
"""Errors that depend on values: a compiled program does not know them."""

BEYOND = {
    "L2": {
        "erfinv": "its derivative is computed from its value, which XLA rounds once more",
        "nn.functional.cosine_similarity": "of single numbers: its gradient is rounding alone",
        "nn.functional.hinge_embedding_loss": "a sum of numbers of which most cancels",
    },
    "L6": {
        "addcdiv": "torch rounds the sum and the quotient once, the written formula each",
        "addcmul": "torch rounds the sum and the product once, the written formula each",
        "baddbmm": "a bias of one number: its gradient is a sum in which most cancels",
        "dist": "a side of one number: its gradient is a sum in which most cancels",
        "exp2": "JAX takes it in bfloat16, torch in float32",
        "fmod": "a divisor of one number: its gradient is a sum in which most cancels",
        "index_fill": "a fill of one number: its gradient is a sum in which most cancels",
        "inner": "a factor of one number: its gradient is a sum in which most cancels",
        "kron": "each element's gradient is a sum in which most cancels",
        "lerp": "a start of one number: its gradient is a sum in which most cancels",
        "logaddexp": "JAX takes its derivative in bfloat16, torch in float32",
        "masked.std": "several operators, each of which rounds",
        "masked.var": "several operators, each of which rounds",
        "meshgrid": "an axis of one number: its gradient is a sum in which most cancels",
        "mul": "a factor of one number: its gradient is a sum in which most cancels",
        "remainder": "a divisor that is broadcast: its gradient is a sum in which most cancels",
        "sinc": "JAX takes it in bfloat16, torch in float32",
        "xlogy": "a factor of one number: its gradient is a sum in which most cancels",
    },
}
"""Entries with samples beyond the limit of a level, at most four times, with the reason."""

BATCH = 24
"""Samples in one module: capture and compilation cost most, and are shared."""

EPS = {torch.float32: ("L2", 2.0**-23), torch.bfloat16: ("L6", 2.0**-8)}


class _Tensor:
    """Where a tensor stands in the arguments of a sample."""


class Call:
    """A sample of an operator: its tensors, and everything else."""

    def __init__(self, index: int, sample: Any) -> None:
        leaves, self.structure = tree_flatten(((sample.input, *sample.args), sample.kwargs))
        self.index = index
        self.tensors = [leaf.detach() for leaf in leaves if isinstance(leaf, torch.Tensor)]
        self.rest = [_Tensor if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves]
        self.floats = [i for i, t in enumerate(self.tensors) if t.is_floating_point()]

    def __call__(self, op: Any, tensors: Sequence[torch.Tensor], *, exact: bool = False) -> Any:
        """The operator's result; ``exact`` puts float64 for every floating dtype asked for."""
        given = iter(tensors)
        leaves = [next(given) if leaf is _Tensor else leaf for leaf in self.rest]
        if exact:
            leaves = [_float64(leaf) for leaf in leaves]
        args, kwargs = tree_unflatten(leaves, self.structure)
        return op(*args, **kwargs)

    def __str__(self) -> str:
        rest = str([leaf for leaf in self.rest if leaf is not _Tensor])[:80]
        return f"{self.index} {[tuple(t.shape) for t in self.tensors]} {rest}"


def _float64(leaf: Any) -> Any:
    floating = isinstance(leaf, torch.dtype) and leaf.is_floating_point
    return torch.float64 if floating else leaf


class Calls(torch.nn.Module):
    """An operator as a module, called once for each sample."""

    def __init__(self, op: Any, calls: Sequence[Call]) -> None:
        super().__init__()
        self.op, self.calls = op, calls

    def forward(self, *tensors: torch.Tensor) -> Any:
        given = iter(tensors)
        return [c(self.op, list(itertools.islice(given, len(c.tensors)))) for c in self.calls]


@dataclass
class Result:
    """What became of an entry's samples: L1 as an error, L2 and L6 as shares of their limits."""

    available: int = 0
    run: int = 0
    worst: dict[str, float] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
    reached: set[str] = field(default_factory=set)
    errors: int = 0
    raised: int = 0
    problems: list[str] = field(default_factory=list)


def entries() -> dict[str, Any]:
    """Entries of ``op_db`` by name and variant."""
    found = {}
    for op in op_db:
        plain = op.name.split(".")[-1]
        if op.name.startswith("sparse."):
            continue
        if {op.name, plain, op.aten_name} & NAMES and set(DTYPES) & set(op.dtypes):
            variant = f"[{op.variant_test_name}]" if op.variant_test_name else ""
            found[op.name + variant] = op
    return found


def run(op: Any, *, every: bool) -> Result:
    """Port and compare samples of an entry: all in every dtype, or one in the first it has."""
    result = Result()
    dtypes = DTYPES[:2] if op.name in ORDERS else DTYPES
    for dtype in [d for d in dtypes if d in op.dtypes][: None if every else 1]:
        torch.manual_seed(0)
        drawn = (s for s in op.sample_inputs("cpu", dtype) if not s.kwargs.get("dropout_p"))
        samples = itertools.islice(drawn, None if every else 1)
        calls = [Call(i, sample) for i, sample in enumerate(samples)]
        result.available += len(calls)
        for start in range(0, len(calls), BATCH):
            several(op, calls[start : start + BATCH], dtype, result)
    if every:
        refuse(op, result)
    return result


def refuse(op: Any, result: Result) -> None:
    """Port what torch refuses: an error then, or when the port is called."""
    for index, error in enumerate(op.error_inputs("cpu") if op.error_inputs_func else ()):
        call = Call(index, error.sample_input)
        if "out" in error.sample_input.kwargs:
            continue  # a port makes its results itself
        if not raises(lambda call=call: call(op.op, [t.clone() for t in call.tensors])):
            continue  # torch refuses it on other devices alone
        result.errors += 1

        def ported(call: Call = call) -> None:
            module = Calls(op.op, [call]).eval()
            model = porter.port(module, *call.tensors, options=porter.Options(layout="torch"))
            model(*(jnp.asarray(array_of(t)) for t in call.tensors))

        if raises(ported):
            result.raised += 1
        elif not re.search(VALUES, error.error_regex):
            result.problems.append(f"{op.name} {call}: {error.error_regex} is not raised")


def raises(call: Callable[[], Any]) -> bool:
    """Whether a call raises anything."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            call()
    except Exception:
        return True
    return False


def several(op: Any, calls: list[Call], dtype: torch.dtype, result: Result) -> None:
    """Compare samples in one module; if anything is wrong, each in its own."""
    try:
        with recorded(result.reached):
            error = compare(op, calls, dtype)
    except Exception as error:  # every sample is reported, whatever it failed with
        if len(calls) > 1:
            for call in calls:
                several(op, [call], dtype, result)
        elif isinstance(error, (UnsupportedOpError, CaptureError, OverflowError)):
            reason = reason_of(error)
            result.refused[reason] = result.refused.get(reason, 0) + 1
        else:
            text = " ".join(str(error).split())[:250]
            kind = str(dtype).removeprefix("torch.")
            result.problems.append(f"{op.name} {kind} {calls[0]}: {type(error).__name__}: {text}")
    else:
        level = EPS[dtype][0] if dtype in EPS else "L1" if dtype == torch.float64 else "exact"
        result.run += len(calls)
        result.worst[level] = max(result.worst.get(level, 0.0), error)


def reason_of(error: Exception) -> str:
    """The line that names the obstacle; a number that needs int64 is JAX's own to refuse."""
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


def compare(op: Any, calls: list[Call], dtype: torch.dtype) -> float:
    """Compare one dtype; the worst relative error, or share of the limit."""
    with jax.enable_x64(dtype == torch.float64), default_dtype(dtype), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wanted = [reference(op, call, call.tensors) for call in calls]
        if op.name in TIES and dtype not in (torch.float64, torch.float32):
            wanted = [Reference({"output 0": w.named["output 0"]}, w.weights) for w in wanted]
        most = 4.0 if dtype in EPS and op.name in BEYOND[EPS[dtype][0]] else 1.0
        got = ours(op, calls, wanted)
        worst = 0.0
        for call, want, named in zip(calls, wanted, got, strict=True):
            if dtype in EPS:
                wide = [t.double() if t.is_floating_point() else t for t in call.tensors]
                truth = reference(op, call, wide, want.weights)
                true = {name: truth.named[name] for name in want.named}
                worst = max(worst, worst_share(named, want.named, true, *EPS[dtype], most))
            else:  # what integers become is float32
                limit = LIMIT if dtype == torch.float64 else 32 * EPS[torch.float32][1]
                worst = max(worst, same(named, want.named, limit))
        return worst


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Numbers that ask for no dtype become float64 in torch where they do in JAX."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64 if dtype == torch.float64 else before)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@dataclass
class Reference:
    """What torch computes: outputs and gradients by name, and the weights of the functional."""

    named: dict[str, np.ndarray]
    weights: list[torch.Tensor | None]


def reference(
    op: Any, call: Call, tensors: list[torch.Tensor], weights: list[Any] | None = None
) -> Reference:
    """Outputs, and gradients of a random functional of them where torch has any."""
    exact = weights is not None
    given = [t.clone().requires_grad_(i in call.floats) for i, t in enumerate(tensors)]
    try:
        out = call(op, given, exact=exact)
    except RuntimeError:  # an argument that torch takes without a gradient alone
        given = [t.clone() for t in tensors]
        out = call(op, given, exact=exact)
    outputs = [t for t in tree_flatten(out)[0] if isinstance(t, torch.Tensor)]
    if weights is None:
        rng = np.random.default_rng(0)
        weights = [
            torch.from_numpy(rng.standard_normal(tuple(t.shape))).to(t.dtype)
            if t.requires_grad and not t.is_complex()
            else None
            for t in outputs
        ]
    named = {f"output {i}": array_of(t) for i, t in enumerate(outputs)}
    parts = [
        (o * w.to(o.dtype)).sum() for o, w in zip(outputs, weights, strict=True) if w is not None
    ]
    if parts and not sum(parts).isnan():  # the gradient of what is NaN says nothing
        try:
            sum(parts).backward()
        except RuntimeError as error:
            if not re.search("not implemented|not differentiable|not supported", str(error)):
                raise  # torch has no derivative of everything
    named |= {f"gradient {i}": array_of(g.grad) for i, g in enumerate(given) if g.grad is not None}
    return Reference(named, weights)


def ours(op: Any, calls: list[Call], wanted: list[Reference]) -> list[dict[str, np.ndarray]]:
    """The port's outputs and gradients for each sample, compiled as one program."""
    tensors = [t for call in calls for t in call.tensors]
    ported = porter.port(Calls(op, calls).eval(), *tensors, options=porter.Options(layout="torch"))
    arrays = [jnp.asarray(array_of(t)) for t in tensors]
    floats = {i: a for i, a in enumerate(arrays) if jnp.issubdtype(a.dtype, jnp.floating)}

    def total(chosen: dict[int, jax.Array]) -> Any:
        out = ported(*[chosen.get(i, a) for i, a in enumerate(arrays)])
        found = [jax.tree.leaves(o) for o in out]
        parts = [
            jnp.vdot(o, jnp.asarray(array_of(w)))
            for outputs, want in zip(found, wanted, strict=True)
            for o, w in zip(outputs, want.weights, strict=True)
            if w is not None
        ]
        return sum(parts, start=jnp.zeros(())), found

    options = {"xla_backend_optimization_level": 0}
    grads, found = jax.jit(jax.grad(total, has_aux=True), compiler_options=options)(floats)
    named, first = [], 0
    for call, outputs, want in zip(calls, found, wanted, strict=True):
        mine = {}
        for name in want.named:
            place = int(name.split()[1])
            if name.startswith("gradient"):
                mine[name] = np.asarray(grads[first + place])
            else:
                mine[name] = np.asarray(outputs[place])
                check_dtype(name, mine[name], want.named[name])
                mine[name] = mine[name].astype(want.named[name].dtype)
        named.append(mine)
        first += len(call.tensors)
    return named


def check_dtype(name: str, got: np.ndarray, want: np.ndarray) -> None:
    """Require torch's dtype; without 64-bit types in JAX, its narrower kind."""
    kinds = str(got.dtype), str(jax.dtypes.canonicalize_dtype(want.dtype))
    integers = all(kind.startswith("int") for kind in kinds)
    assert integers or kinds[0] == kinds[1], f"{name} is {kinds[0]}, torch's {kinds[1]}"
