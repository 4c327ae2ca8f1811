"""torch's own samples for its modules, run through both frameworks: everything in one go.

``torch.testing._internal`` is private and may change with any release: tests use it, nothing else.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import nnx
from torch.testing._internal.common_modules import module_db
from torch.utils._pytree import tree_flatten, tree_unflatten

from fluxmod import convert, nn
from fluxmod.nn import functional as F
from fluxmod.nn._random import replay
from fluxmod.parity._torch import record_masks
from parity_tests.compare import any_algorithm, as_array, bitwise, same
from parity_tests.nn.twins import (
    Case,
    axes_of,
    build,
    call_flax,
    flat,
    flax_inputs,
    input_to_torch_axes,
    inputs,
    output_to_torch_axes,
    torch_keywords,
)

EPS32 = float(np.finfo(np.float32).eps)
FAST_COMPILE = {"xla_backend_optimization_level": 0}


@dataclass
class Result:
    """What became of the samples of one class."""

    available: int = 0
    run: int = 0
    problems: list[str] = field(default_factory=list)
    l1: float = 0.0
    l2: float = 0.0


def classes() -> dict[str, Any]:
    """Every class of ``module_db`` by its name in ``torch.nn``."""
    return {info.module_cls.__name__: info for info in module_db}


def run(info: Any, *, every: bool) -> Result:
    """Run the samples of a class: all, or one of each constructor call, modes in turn."""
    cases = list(cases_of(info))
    result = Result(available=len(cases))
    for case in cases if every else subset(cases):
        result.run += 1
        try:
            with any_algorithm():
                l1, l2 = whole(case)
            result.l1, result.l2 = max(result.l1, l1), max(result.l2, l2)
        except Exception as error:  # every sample is reported, whatever it failed with
            text = " ".join(str(error).split())[:300]
            result.problems.append(f"{case.id}: {type(error).__name__}: {text}")
    return result


MOST = 20
"""LinearCrossEntropyLoss has 437 constructor calls, all others together 448: it is thinned out."""


def subset(cases: Sequence[Case]) -> list[Case]:
    """The first case of every constructor call, in training and evaluation mode in turn."""
    by_call: dict[str, list[Case]] = {}
    for case in cases:
        by_call.setdefault(case.kwargs["call"], []).append(case)
    chosen = [
        group[0 if i % 2 == 0 else len(group) // 2] for i, group in enumerate(by_call.values())
    ]
    if len(chosen) == 1:
        chosen.append(cases[-1])
    return chosen[:: max(len(chosen) // MOST, 1)]


def cases_of(info: Any) -> Iterator[Case]:
    """One case per sample, in training and in evaluation mode."""
    name = info.module_cls.__name__
    for train in (True, False):
        with torch.random.fork_rng(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.manual_seed(0)
            samples = info.module_inputs_func(info, "cpu", torch.float64, True, train)
        for index, sample in enumerate(samples):
            mode = "train" if train else "eval"
            yield case_of(f"{name}-{index}-{sample.desc or 'plain'}-{mode}", info, sample, train)


def case_of(label: str, info: Any, sample: Any, train: bool) -> Case:
    """A case that builds torch's layer as the sample does, and ours with the same arguments."""
    made, given = sample.constructor_input, sample.forward_input
    keywords = {k: _array(v) for k, v in given.kwargs.items()} if given else {}
    positional = [_array(v) for v in given.args] if given else []
    if not positional and "input" in keywords:
        positional = [keywords.pop("input")]
    leaves, structure = tree_flatten(tuple(positional))
    is_lazy = info.module_cls.__name__.startswith("Lazy")  # made by the first call

    def ours(call: str, *, rngs: Any, param_dtype: Any) -> Any:
        types = {"rngs": rngs, "param_dtype": param_dtype}
        cls = getattr(nn, info.module_cls.__name__)
        known = nn_parameters(cls)
        layer = cls(
            *[_in_flax(value, types) for value in made.args],
            **{k: _in_flax(v, types) for k, v in made.kwargs.items() if k not in TORCH_ONLY},
            **{k: v for k, v in types.items() if k in known},
        )
        if is_lazy:
            layer(*flax_inputs(layer, leaves))
        return layer

    def theirs(call: str) -> torch.nn.Module:
        layer = info.module_cls(*made.args, **made.kwargs)
        if is_lazy:
            layer.double()(*map(torch.from_numpy, leaves))
        return layer

    return Case(
        id=label,
        torch=theirs,
        flax=ours,
        kwargs={"call": _call_text(made)},
        x=lambda rng: tuple(leaves),
        nest=lambda arrays: tree_unflatten(arrays, structure),
        call=keywords,
        train=train,
    )


def _call_text(made: Any) -> str:
    """A constructor call as text, tensors by their shapes."""

    def text(value: Any) -> str:
        if isinstance(value, torch.Tensor):
            return f"tensor{tuple(value.shape)}"
        is_code = callable(value) and not isinstance(value, torch.nn.Module)
        return getattr(value, "__name__", "function") if is_code else str(value)

    named = [f"{key}={text(value)}" for key, value in sorted(made.kwargs.items())]
    return ", ".join([*map(text, made.args), *named])


def nn_parameters(cls: type) -> frozenset[str]:
    """Names of a class's constructor arguments; its metaclass hides them from ``signature``."""
    import inspect

    return frozenset(inspect.signature(cls.__init__).parameters)


TORCH_ONLY = ("device", "dtype")
"""Constructor arguments that say where and in what torch builds a layer."""

CONSTANT = {("SoftMarginLoss", 1)}
"""Float inputs that torch takes no gradient of."""

FUNCTIONS: dict[Any, Callable[..., Any]] = {
    getattr(torch.nn.functional, name): getattr(F, name)
    for name in dir(F)
    if callable(getattr(F, name)) and callable(getattr(torch.nn.functional, name, None))
}


def _in_flax(value: Any, types: Mapping[str, Any]) -> Any:
    """A constructor argument as the Flax class takes it."""
    if isinstance(value, torch.Tensor):
        return value.detach().numpy()
    if isinstance(value, torch.nn.TransformerEncoderLayer):
        return nn.TransformerEncoderLayer(
            value.self_attn.embed_dim,
            value.self_attn.num_heads,
            value.linear1.out_features,
            value.dropout.p,
            FUNCTIONS[value.activation],
            value.norm1.eps,
            value.self_attn.batch_first,
            value.norm_first,
            value.linear1.bias is not None,
            **types,
        )
    return FUNCTIONS.get(value, value) if callable(value) else value


def _array(value: Any) -> Any:
    """Tensors as numpy, in tuples too; contiguous, because a strided one picks other kernels."""
    if isinstance(value, (tuple, list)):
        return type(value)(_array(v) for v in value)
    if not isinstance(value, torch.Tensor):
        return value
    return np.ascontiguousarray(value.detach().numpy()).reshape(tuple(value.shape))


def whole(case: Case) -> tuple[float, float]:
    """L0, L1 and L2 of one sample; return the worst relative error and the worst L2 ratio."""
    with jax.enable_x64(True), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs, ours = build(case)
        assert str(ours) == str(theirs), f"prints\n{ours}\ntorch prints\n{theirs}"
        bitwise(convert.to_torch(ours), theirs.state_dict())
        return semantics(case, theirs, ours), precision(case)


def semantics(case: Case, theirs: torch.nn.Module, ours: Any) -> float:
    """Float64: outputs, gradients of a random functional of them, and all state afterwards."""
    arrays = inputs(case)
    tensors = [torch.from_numpy(a.copy()) for a in arrays]
    kind = type(theirs).__name__
    floats = [i for i, t in enumerate(tensors) if t.is_floating_point()]
    floats = [i for i in floats if (kind, i) not in CONSTANT]
    for i in floats:
        tensors[i].requires_grad_()
    with record_masks() as masks:
        want = flat(theirs(*case.nest(tensors), **torch_keywords(case)))
    rng = np.random.default_rng(7)
    weights = {
        i: rng.standard_normal(tuple(out.shape)) for i, out in enumerate(want) if out.requires_grad
    }
    if weights:
        sum((want[i] * torch.from_numpy(w)).sum() for i, w in weights.items()).backward()
    grads, by_input, got = _flax_run(case, ours, arrays, floats, weights, masks)
    moved = [input_to_torch_axes(ours, i, g) for i, g in zip(floats, by_input, strict=True)]
    state = same(convert.to_torch(ours), theirs.state_dict())
    nnx.update(ours, grads)
    as_torch = convert.to_torch(ours)
    parameters = {n: _grad(p) for n, p in theirs.named_parameters(remove_duplicate=False)}
    # outputs and gradients are one group: a gradient far below them may be cancellation alone
    worst = same(
        {
            **_numbered("output", output_to_torch_axes(ours, got)),
            **_numbered("gradient", moved),
            **{name: as_torch[name] for name in parameters},
        },
        {
            **_numbered("output", want),
            **_numbered("gradient", [_grad(tensors[i]) for i in floats]),
            **parameters,
        },
    )
    return max(worst, state)


def _flax_run(
    case: Case, ours: Any, arrays: Any, floats: Any, weights: Any, masks: Any
) -> tuple[Any, list[Any], list[Any]]:
    """Gradients and outputs of our layer; what the call changes is changed in place."""
    graph, params, rest = nnx.split(ours, nnx.Param, ...)
    axes = axes_of(ours)
    xs = flax_inputs(ours, arrays)
    channels = {i: axes.of_output(i) for i in weights}
    moved = {i: w if channels[i] is None else channels[i].to_flax(w) for i, w in weights.items()}

    def total(params: Any, chosen: list[jax.Array]) -> Any:
        given = list(xs)
        for i, x in zip(floats, chosen, strict=True):
            given[i] = x
        model = nnx.merge(graph, params, rest, copy=True)
        with replay(masks):
            outputs = call_flax(model, case, given)
        value = sum((jnp.vdot(outputs[i], w) for i, w in moved.items()), start=jnp.zeros(()))
        return value, (outputs, nnx.state(model))

    work = jax.jit(jax.grad(total, argnums=(0, 1), has_aux=True), compiler_options=FAST_COMPILE)
    (grads, by_input), (outputs, after) = work(params, [xs[i] for i in floats])
    nnx.update(ours, after)
    return grads, by_input, outputs


def precision(case: Case) -> float:
    """Float32 outputs beside the float64 truth: the error as a share of what is allowed."""
    with ordinary_path():
        return _precision(case)


@contextmanager
def ordinary_path() -> Iterator[None]:
    """Without torch's fast path for encoders without gradients, which zeroes padded positions."""
    was = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(was)


def _precision(case: Case) -> float:
    arrays = inputs(case, "float32")
    theirs, ours = build(case, "float32")
    with torch.no_grad(), record_masks() as masks:
        of_torch = [as_array(out) for out in call_torch_as(theirs, case, arrays)]
    if masks:
        return 0.0  # another draw than the truth's
    with torch.no_grad():
        truth = [as_array(out) for out in call_torch_as(build(case)[0], case, inputs(case))]
    # the model as a pytree: NNX's tree mode, where `semantics` splits and merges
    work = jax.jit(lambda model, xs: call_flax(model, case, xs))
    of_flax = output_to_torch_axes(ours, work(ours, flax_inputs(ours, arrays)))
    worst = 0.0
    for i, (t, f, true) in enumerate(zip(of_torch, of_flax, truth, strict=True)):
        if true.size and np.issubdtype(true.dtype, np.floating):
            assert f.dtype == t.dtype, f"output {i} is {f.dtype}, torch has {t.dtype}"
            share = _relative(f, true) / (4 * _relative(t, true) + 8 * EPS32)
            assert share <= 1, f"output {i}: {share:.1f} times the float32 error allowed"
            worst = max(worst, share)
    return worst


def call_torch_as(module: torch.nn.Module, case: Case, arrays: Any) -> list[Any]:
    """Torch's outputs; float keyword arguments follow the dtype of the inputs."""
    floats = [a.dtype for a in arrays if np.issubdtype(a.dtype, np.floating)]
    dtype = getattr(torch, str(floats[0])) if floats else torch.float64
    keywords = {
        k: v.to(dtype) if isinstance(v, torch.Tensor) and v.is_floating_point() else v
        for k, v in torch_keywords(case).items()
    }
    tensors = [torch.from_numpy(a.copy()) for a in arrays]
    return flat(module(*case.nest(tensors), **keywords))


def _grad(tensor: torch.Tensor) -> np.ndarray:
    if tensor.grad is None:
        return np.zeros(tuple(tensor.shape))
    return as_array(tensor.grad.to_dense() if tensor.grad.is_sparse else tensor.grad)


def _numbered(kind: str, arrays: Sequence[Any]) -> dict[str, Any]:
    return {f"{kind} {i}": array for i, array in enumerate(arrays)}


def _relative(got: np.ndarray, true: np.ndarray) -> float:
    finite = np.isfinite(true)
    error = np.linalg.norm((got.astype(np.float64) - true)[finite])
    return float(error / max(float(np.linalg.norm(true[finite])), 1e-30))
