"""torch's own samples for its functions, run through both frameworks in float64.

``torch.testing._internal`` is private and may change with any release: tests use it, nothing else.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch.testing._internal.common_methods_invocations import op_db
from torch.utils._pytree import tree_flatten, tree_flatten_with_path, tree_unflatten

from fluxmod.nn import Channel, PairwiseDistance
from fluxmod.nn import functional as F
from fluxmod.nn._random import replay
from fluxmod.parity._torch import record_masks
from fluxmod.parity.criteria import precision_limit, relative_l2
from parity_tests.compare import LIMIT, any_algorithm, same

from .signatures import SIGNATURES

PREFIX = "nn.functional."
EPS32, EPS16 = 2.0**-23, 2.0**-8
Named = dict[str, np.ndarray]


@dataclass(frozen=True)
class Perm:
    """A fixed reordering of axes, for kernels: ``axes[i]`` of torch's array is axis ``i`` here."""

    axes: tuple[int, ...]

    def to_flax(self, array: np.ndarray) -> np.ndarray:
        """torch's order to ours."""
        return np.transpose(array, self.axes)

    def to_torch(self, array: np.ndarray) -> np.ndarray:
        """Our order to torch's."""
        return np.transpose(array, np.argsort(self.axes))


Move = Channel | Perm | None


@dataclass(frozen=True)
class Twin:
    """How one of torch's functions is called here.

    Args:
        inputs: where the channel axis of each array argument is, by torch's argument name.
        output: the same of the outputs: one for all, or one each.
        extra: keywords of our function that torch has not.
        rename: torch's argument names that are different here.
        drop: arguments of torch's that have no meaning here.
        outputs: how many of our outputs torch has; the rest is more than torch returns.
        absent: why there is no twin; then nothing is run.
        prepare: changes the arguments of both sides: what torch draws, for instance.
        ours: changes the arguments of our side alone, sizes that count the channels.
        leave: a sample that is left out, with the reason: ``leave(args) -> str | None``.
    """

    inputs: Mapping[str, Move] = field(default_factory=dict)
    output: Move | tuple[Move, ...] = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    rename: Mapping[str, str] = field(default_factory=dict)
    drop: tuple[str, ...] = ()
    outputs: int | None = None
    absent: str = ""
    prepare: Callable[[dict[str, Any]], dict[str, Any]] = lambda given: given
    ours: Callable[[dict[str, Any]], dict[str, Any]] = lambda given: given
    leave: Callable[[Mapping[str, Any]], str | None] = lambda given: None

    def of_output(self, index: int) -> Move:
        """The declaration of one output."""
        if isinstance(self.output, tuple):
            return self.output[index] if index < len(self.output) else None
        return self.output


@dataclass
class Result:
    """What became of the samples of one entry: worst L1 error, worst share of the L2 limit."""

    available: int = 0
    run: int = 0
    left: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    l1: float = 0.0
    l2: float = 0.0
    l6: float = 0.0


def entries() -> dict[str, Any]:
    """Every ``nn.functional`` entry of ``op_db`` by name and variant."""
    return {_label(op): op for op in op_db if op.name.startswith(PREFIX)}


def _label(op: Any) -> str:
    name = op.name.removeprefix(PREFIX)
    return f"{name}[{op.variant_test_name}]" if op.variant_test_name else name


def samples_of(op: Any, dtype: torch.dtype) -> Iterator[Any]:
    """Yield torch's samples, from one seed."""
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        yield from op.sample_inputs("cpu", dtype, requires_grad=dtype.is_floating_point)


def spread(count: int, most: int | None) -> list[int]:
    """At most ``most`` of ``count`` numbers, evenly spread, the ends among them."""
    if most is None or count <= most:
        return list(range(count))
    return sorted({round(i * (count - 1) / (most - 1)) for i in range(most)})


def run(op: Any, twin: Twin, *, most: int | None = None) -> Result:
    """Run the samples of an entry: floats by L1, L2 and L6, integers and bools exactly.

    Complex samples are compared forward: the two frameworks differ by a conjugate in what they
    call the gradient.
    """
    result = Result()
    for dtype in (torch.float64, torch.int64, torch.bool, torch.complex128):
        if dtype in op.dtypes:
            samples = list(samples_of(op, dtype))
            result.available += len(samples)
            for index in spread(len(samples), most):
                given = twin.prepare(bound(op, samples[index]))
                if reason := twin.leave(given):
                    result.left[reason] = result.left.get(reason, 0) + 1
                    continue
                result.run += 1
                try:
                    with any_algorithm():
                        one(Sample(op, twin, given), result)
                except Exception as error:  # every sample is reported, whatever it failed with
                    text = " ".join(str(error).split())[:300]
                    result.problems.append(
                        f"sample {index} {shown(given)}: {type(error).__name__}: {text}"
                    )
    return result


def bound(op: Any, sample: Any) -> dict[str, Any]:
    """The sample's arguments by torch's names."""
    name = op.name.removeprefix(PREFIX)
    values = (sample.input, *sample.args)
    if name in SIGNATURES:
        names = list(SIGNATURES[name])
    else:
        names = list(inspect.signature(getattr(torch.nn.functional, name)).parameters)
    if name in ("embedding", "embedding_bag"):
        names[:2] = names[1::-1]  # its samples start with the table
    if len(values) > len(names):
        raise ValueError(f"{op.name}: {len(values)} arguments, names {names}")
    return {**dict(zip(names, values, strict=False)), **sample.kwargs}


def one(sample: Sample, result: Result) -> None:
    """Compare one sample; raises AssertionError with everything that differs."""
    truth, masks, weights = sample.in_torch(torch.float64)
    got = sample.in_flax("float64", masks, weights)
    # integers may become float32, whatever the precision of the run
    narrow = any(a.dtype == np.float32 for a in truth.values())
    error = same(got, truth, 32 * EPS32 if narrow else LIMIT)
    result.l1 = max(result.l1, 0.0 if narrow else error)
    if masks or not any(np.issubdtype(a.dtype, np.floating) for a in truth.values()):
        return  # another dtype draws other masks; integers have no precision
    for dtype, level, eps in ((torch.float32, "L2", EPS32), (torch.bfloat16, "L6", EPS16)):
        if not sample.floats or dtype not in sample.op.dtypes:
            continue
        if dtype == torch.bfloat16:
            truth = sample.in_torch(torch.float64, by=dtype)[0]
        theirs = sample.in_torch(dtype)[0]
        ours = sample.in_flax(str(dtype).removeprefix("torch."), masks, weights)
        share = worst_share(ours, theirs, truth, level, eps)
        if level == "L2":
            result.l2 = max(result.l2, share)
        else:
            result.l6 = max(result.l6, share)


def worst_share(
    ours: Named, theirs: Named, truth: Named, level: str, eps: float, most: float = 1.0
) -> float:
    """The largest error as a share of what the level allows; beyond ``most`` an AssertionError."""
    scale = max(
        (float(np.abs(a[np.isfinite(a)]).max(initial=0)) for a in truth.values() if _floats(a)),
        default=0.0,
    )
    worst, problems = 0.0, []
    for name, true in truth.items():
        if not _floats(true) or not true.size:
            continue
        if ours[name].dtype != theirs[name].dtype:
            problems.append(f"{level} {name}: {ours[name].dtype}, torch has {theirs[name].dtype}")
            continue
        allowed = precision_limit(relative_l2(theirs[name], true, scale), eps, level)
        error = relative_l2(ours[name], true, scale)
        if not np.isfinite(theirs[name][np.isfinite(true)].astype(np.float64)).all():
            continue  # torch itself overflows
        worst = max(worst, error / allowed)
        if error > most * allowed:
            problems.append(f"{level} {name}: error {error:.1e}, limit {allowed:.1e}")
    assert not problems, "; ".join(problems)
    return worst


def _floats(array: np.ndarray) -> bool:
    return bool(np.issubdtype(array.dtype, np.floating))


class Sample:
    """One sample, run in either framework in a given dtype.

    Floats go by way of float32, so that every precision sees one input.
    """

    def __init__(self, op: Any, twin: Twin, given: Mapping[str, Any]) -> None:
        self.op, self.twin = op, twin
        self.name = op.name.removeprefix(PREFIX)
        paths, self.structure = tree_flatten_with_path(dict(given))
        self.leaves = [leaf for _, leaf in paths]
        self.moves = [twin.inputs.get(path[0].key) for path, _ in paths]
        self.floats = [
            i
            for i, leaf in enumerate(self.leaves)
            if isinstance(leaf, torch.Tensor) and leaf.requires_grad
        ]

    def tensor(self, i: int, dtype: torch.dtype, by: torch.dtype) -> torch.Tensor:
        """An argument in ``dtype``, rounded to ``by`` first."""
        leaf = self.leaves[i].detach().clone()
        return leaf.to(by).to(dtype) if leaf.is_floating_point() else leaf

    def in_torch(
        self, dtype: torch.dtype, by: torch.dtype | None = None
    ) -> tuple[Named, list[np.ndarray], dict[int, np.ndarray]]:
        """Outputs and gradients, the masks drawn, and the weights of the functional."""
        by = by or (dtype if dtype == torch.bfloat16 else torch.float32)
        values = [
            self.tensor(i, dtype, by).requires_grad_(i in self.floats)
            if isinstance(leaf, torch.Tensor)
            else leaf
            for i, leaf in enumerate(self.leaves)
        ]
        with warnings.catch_warnings(), record_masks() as masks, torch.random.fork_rng():
            warnings.simplefilter("ignore")
            torch.manual_seed(1)
            out = getattr(torch.nn.functional, self.name)(**tree_unflatten(values, self.structure))
        outputs = [o for o in tree_flatten(out)[0] if isinstance(o, torch.Tensor)]
        rng = np.random.default_rng(7)
        weights = {
            i: rng.standard_normal(tuple(o.shape)).astype(np.float32)
            for i, o in enumerate(outputs)
            if o.requires_grad and not o.is_complex()
        }
        named = {f"output {i}": array_of(o) for i, o in enumerate(outputs)}
        if weights and self.floats:
            total = sum(
                (outputs[i] * torch.from_numpy(w).to(by).to(dtype)).sum()
                for i, w in weights.items()
            )
            grads = torch.autograd.grad(total, [values[i] for i in self.floats], allow_unused=True)
            for i, g in zip(self.floats, grads, strict=True):
                named[f"gradient {i}"] = array_of(torch.zeros_like(values[i]) if g is None else g)
        return named, masks, weights

    def in_flax(self, dtype: str, masks: Any, weights: Mapping[int, np.ndarray]) -> Named:
        """Our outputs and gradients, compiled, in torch's order of axes."""
        kind = getattr(torch, dtype)
        by = kind if kind == torch.bfloat16 else torch.float32
        arrays = {
            i: to_flax(self.moves[i], array_of(self.tensor(i, kind, by)))
            for i, leaf in enumerate(self.leaves)
            if isinstance(leaf, torch.Tensor)
        }
        wanted = self.floats if weights else []
        # integers stay concrete: bounds of offsets and lengths are static facts of a sample
        fixed = {i: a for i, a in arrays.items() if i not in wanted and a.dtype.kind in "iub"}
        rest = {i: a for i, a in arrays.items() if i not in wanted and i not in fixed}

        def functional(chosen: Any, others: Any) -> tuple[Any, list[Any]]:
            with replay(masks):
                outputs = self.call({**fixed, **others, **chosen})
            total = jnp.zeros(())
            for i, w in weights.items():
                moved = to_flax(self.twin.of_output(i), w)
                total = total + jnp.vdot(outputs[i], jnp.asarray(moved, outputs[i].dtype))
            return total, outputs

        with jax.enable_x64(True):
            work = jax.jit(
                jax.grad(functional, has_aux=True)
                if wanted
                else lambda c, r: (c, functional(c, r)[1]),
                compiler_options={"xla_backend_optimization_level": 0},
            )
            grads, outputs = work({i: jnp.asarray(arrays[i]) for i in wanted}, rest)
        named = {
            f"output {i}": to_torch(self.twin.of_output(i), np.asarray(o))
            for i, o in enumerate(outputs)
        }
        for i in wanted:
            named[f"gradient {i}"] = to_torch(self.moves[i], np.asarray(grads[i]))
        return named

    def call(self, values: Mapping[int, Any]) -> list[Any]:
        """Call our function with arrays in the places of tensors."""
        filled = [_plain(values.get(i, leaf)) for i, leaf in enumerate(self.leaves)]
        keywords = tree_unflatten(filled, self.structure)
        keywords = {
            self.twin.rename.get(k, k): v for k, v in keywords.items() if k not in self.twin.drop
        }
        out = getattr(F, self.name)(**self.twin.ours(keywords), **self.twin.extra)
        return jax.tree.leaves(out)[: self.twin.outputs]


def array_of(tensor: torch.Tensor) -> np.ndarray:
    """A tensor's values in a fresh contiguous array of the same shape."""
    tensor = tensor.detach().resolve_conj().resolve_neg()
    tensor = tensor.to_dense() if tensor.is_sparse else tensor
    if tensor.dtype == torch.bfloat16:
        return np.array(tensor.float().numpy(), order="C").astype(jnp.bfloat16)
    return np.array(tensor.numpy(force=True), order="C")


def to_flax(move: Move, array: np.ndarray) -> np.ndarray:
    """Move axes, if there is anything to move."""
    return array if move is None else move.to_flax(array)


def to_torch(move: Move, array: np.ndarray) -> np.ndarray:
    """Move axes back."""
    return array if move is None else move.to_torch(array)


def _plain(value: Any) -> Any:
    """An argument that is not an array, as JAX has it."""
    if isinstance(value, torch.dtype):
        return jnp.dtype(str(value).removeprefix("torch."))
    if isinstance(value, torch.nn.PairwiseDistance):
        return PairwiseDistance(value.norm, value.eps, value.keepdim)
    return value


def shown(given: Mapping[str, Any]) -> str:
    """The arguments, tensors by dtype and shape."""

    def text(value: Any) -> str:
        if isinstance(value, torch.Tensor):
            return f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}"
        return repr(value)

    return "(" + ", ".join(f"{k}={text(v)}" for k, v in given.items()) + ")"
