"""One layer against its torch twin: a case is a line of data, every check is written once.

``run(case, check)`` builds both layers, randomises torch's weights, moves them with
``fluxmod.convert`` and compares. It shares nothing with ``fluxmod.parity``: it is a second opinion.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from fluxmod import convert
from parity_tests.compare import as_array, bitwise, same
from parity_tests.db.modules import FAST_COMPILE, whole

from .twins import Case as Case
from .twins import Ints as Ints
from .twins import (
    axes_of,
    build,
    build_flax,
    call_flax,
    call_torch,
    flat,
    flax_inputs,
    generator,
    input_to_torch_axes,
    inputs,
    output_to_torch_axes,
    torch_keywords,
)

EPS32 = float(np.finfo(np.float32).eps)


def shape_dtype(case: Case) -> None:
    """Shapes and dtypes of all outputs, in float32 and float64, without computing in Flax."""
    for dtype in ("float32", "float64"):
        theirs, ours = build(case, dtype)
        arrays = inputs(case, dtype)
        want = [as_array(out) for out in call_torch(theirs, case, arrays)]
        graph, state = nnx.split(ours)
        got = jax.eval_shape(
            lambda state, xs, graph=graph: call_flax(nnx.merge(graph, state), case, xs),
            state,
            flax_inputs(ours, arrays),
        )
        empty = [np.zeros(out.shape, out.dtype) for out in got]
        moved = output_to_torch_axes(ours, empty)
        assert [o.shape for o in moved] == [o.shape for o in want]
        for ours_out, theirs_out in zip(moved, want, strict=True):
            if np.issubdtype(theirs_out.dtype, np.floating):
                assert ours_out.dtype == theirs_out.dtype


def forward(case: Case) -> None:
    """Outputs in float64, for two draws of the inputs."""
    for draw in range(2):
        theirs, ours = build(case)
        arrays = inputs(case, draw=draw)
        got = output_to_torch_axes(ours, call_flax(ours, case, flax_inputs(ours, arrays)))
        same(_named("output", got), _named("output", call_torch(theirs, case, arrays)))


def input_grads(case: Case) -> None:
    """Gradient of a random linear functional of all outputs with respect to the float inputs."""
    want, got = _gradients(case)
    same(got["inputs"], want["inputs"])


def param_grads(case: Case) -> None:
    """The same functional's gradient with respect to every parameter, under torch's names."""
    want, got = _gradients(case)
    same(got["params"], want["params"])


def state(case: Case) -> None:
    """Buffers and parameters after three calls."""
    theirs, ours = build(case)
    for draw in range(3):
        arrays = inputs(case, draw=draw)
        with torch.no_grad():
            call_torch(theirs, case, arrays)
        call_flax(ours, case, flax_inputs(ours, arrays))
    same(convert.to_torch(ours), theirs.state_dict())


def jit(case: Case) -> None:
    """Compiled and eager calls agree, in outputs and in what they change."""
    _, ours = build(case)
    _, copy = build(case)
    xs = flax_inputs(ours, inputs(case))
    compiled = nnx.jit(lambda model, xs: call_flax(model, case, xs))
    for _ in range(2):
        same(_named("output", compiled(copy, xs)), _named("output", call_flax(ours, case, xs)))
    same(convert.to_torch(copy), convert.to_torch(ours))


def split_merge(case: Case) -> None:
    """A layer taken apart and put together again is the same layer, names in the same order."""
    _, ours = build(case)
    graph, state = nnx.split(ours)
    again = nnx.merge(graph, state)
    assert str(again) == str(ours)
    bitwise(convert.to_torch(again), convert.to_torch(ours))
    xs = flax_inputs(ours, inputs(case))
    bitwise(
        _named("output", call_flax(again, case, xs)), _named("output", call_flax(ours, case, xs))
    )


def round_trip(case: Case) -> None:
    """torch -> Flax -> torch is exact: keys and their order, dtypes, bits."""
    for dtype in ("float32", "float64", "bfloat16"):
        theirs, ours = build(case, dtype)
        bitwise(convert.to_torch(ours), theirs.state_dict())


def printed(case: Case) -> None:
    """Both print the same structure."""
    theirs, ours = build(case)
    assert str(ours) == str(theirs)


def float32(case: Case) -> None:
    """In float32 Flax is no further from the float64 truth than torch, within a factor of 4."""
    arrays = inputs(case, "float32")
    theirs, ours = build(case, "float32")
    truth = [as_array(out) for out in call_torch(build(case)[0], case, inputs(case))]
    of_torch = [as_array(out) for out in call_torch(theirs, case, arrays)]
    of_flax = output_to_torch_axes(ours, call_flax(ours, case, flax_inputs(ours, arrays)))
    for i, (t, f, true) in enumerate(zip(of_torch, of_flax, truth, strict=True)):
        if true.size and np.issubdtype(true.dtype, np.floating):
            limit = 4 * _relative(t, true) + 8 * EPS32
            error = _relative(f, true)
            assert error <= limit, f"output {i}: error {error:.2e} of float64, limit {limit:.2e}"


CHECKS: dict[str, Callable[[Case], Any]] = {
    "shape_dtype": shape_dtype,
    "forward": forward,
    "input_grads": input_grads,
    "param_grads": param_grads,
    "state": state,
    "jit": jit,
    "split_merge": split_merge,
    "round_trip": round_trip,
    "repr": printed,
    "float32": float32,
}


def briefly(case: Case) -> None:
    """Shapes, weights there and back, and all that ``whole`` finds with two compiled programs.

    Those are the text, outputs, gradients and state in float64, and float32 outputs.
    """
    for check in (shape_dtype, whole, round_trip):
        check(case)


def gradients(case: Case) -> None:
    """Both kinds of gradient, computed once."""
    want, got = _gradients(case)
    for kind in ("inputs", "params"):
        same(got[kind], want[kind])


TOGETHER = {"whole": whole, "briefly": briefly, "gradients": gradients}


def case_and_check(cases: Sequence[Case]) -> list[tuple[Case, str]]:
    """Parameters of a test: each case briefly, each eighth by every check on its own as well."""
    return [
        (case, check)
        for i, case in enumerate(cases)
        for check in ("briefly", *(CHECKS if i % 8 == 0 else ()))
    ]


def run(case: Case, check: str) -> None:
    """Run one check of a case with 64-bit types and without implicit promotion in jax."""
    if check in case.skip:
        pytest.skip(case.skip[check])
    with (
        jax.enable_x64(True),
        jax.numpy_dtype_promotion("strict"),
        jax.numpy_rank_promotion("raise"),
    ):
        (CHECKS | TOGETHER)[check](case)


def both_raise(
    case: Case, error: type[Exception], *, torch_error: type[Exception] = Exception
) -> None:
    """Torch refuses to build or call the layer, and so does Flax, with ``error``."""
    arrays = inputs(case, "float32")

    def in_torch() -> None:
        call_torch(case.torch(*case.args, **case.kwargs).train(case.train), case, arrays)

    def in_flax() -> None:
        ours = build_flax(case, "float32")
        call_flax(ours, case, flax_inputs(ours, arrays))

    with pytest.raises(torch_error):
        in_torch()
    with pytest.raises(error):
        in_flax()


# --- their parts --------------------------------------------------------------------------------


def _named(kind: str, arrays: Sequence[Any]) -> dict[str, Any]:
    return {f"{kind} {i}": array for i, array in enumerate(arrays)}


def _gradients(case: Case) -> tuple[dict[str, Any], dict[str, Any]]:
    """Gradients of both sides: {"inputs": ..., "params": ...}, names and axes of torch."""
    theirs, ours = build(case)
    arrays = inputs(case)
    tensors = [torch.from_numpy(a.copy()) for a in arrays]
    floats = [i for i, t in enumerate(tensors) if t.is_floating_point()]
    for i in floats:
        tensors[i].requires_grad_()
    outputs = flat(theirs(*case.nest(tensors), **torch_keywords(case)))
    used = [i for i, out in enumerate(outputs) if out.is_floating_point()]
    rng = generator(case, 99)
    weights = {i: rng.standard_normal(tuple(outputs[i].shape)) for i in used}
    total = sum((outputs[i] * torch.from_numpy(w)).sum() for i, w in weights.items())
    if total.requires_grad:
        total.backward()
    want = {
        "inputs": {f"input {i}": _grad(tensors[i]) for i in floats},
        "params": {name: _grad(p) for name, p in theirs.named_parameters(remove_duplicate=False)},
    }
    return want, _flax_gradients(case, ours, arrays, floats, weights)


def _grad(tensor: torch.Tensor) -> torch.Tensor:
    if tensor.grad is None:
        return torch.zeros_like(tensor)
    return tensor.grad.to_dense() if tensor.grad.is_sparse else tensor.grad


def _flax_gradients(
    case: Case,
    ours: Any,
    arrays: Sequence[np.ndarray],
    floats: Sequence[int],
    weights: Mapping[int, np.ndarray],
) -> dict[str, Any]:
    graph, params, rest = nnx.split(ours, nnx.Param, ...)
    xs = flax_inputs(ours, arrays)
    axes = axes_of(ours)
    channels = {i: axes.of_output(i) for i in weights}
    moved = {i: w if channels[i] is None else channels[i].to_flax(w) for i, w in weights.items()}

    def total(params: Any, chosen: list[jax.Array]) -> jax.Array:
        given = list(xs)
        for i, x in zip(floats, chosen, strict=True):
            given[i] = x
        outputs = call_flax(nnx.merge(graph, params, rest, copy=True), case, given)
        return sum((jnp.vdot(outputs[i], moved[i]) for i in moved), start=jnp.zeros(()))

    # eagerly each primitive and each of its transposes would be a program of its own
    work = jax.jit(jax.grad(total, argnums=(0, 1)), compiler_options=FAST_COMPILE)
    by_param, by_input = work(params, [xs[i] for i in floats])
    names = [name for name, _ in convert.named_parameters(ours, remove_duplicate=False)]
    nnx.update(ours, by_param)
    as_torch = convert.to_torch(ours)
    return {
        "inputs": {
            f"input {i}": input_to_torch_axes(ours, i, g)
            for i, g in zip(floats, by_input, strict=True)
        },
        "params": {name: as_torch[name] for name in names},
    }


def _relative(got: np.ndarray, true: np.ndarray) -> float:
    finite = np.isfinite(true)
    error = np.linalg.norm((got.astype(np.float64) - true)[finite])
    return float(error / max(float(np.linalg.norm(true[finite])), 1e-30))
