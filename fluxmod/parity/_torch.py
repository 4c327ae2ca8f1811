"""The torch side: run a module, record its masks and calls, take gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from fluxmod.convert._source import as_numpy

from ._copies import copied
from ._float64 import float64_kernels
from ._run import Call, Run, cotangents
from ._trees import is_mask, leaves, map_leaves
from .criteria import NARROWED, NO_INPUT_GRADIENT

__all__ = ["Recorder", "record_masks", "run_torch", "to_tensor"]


_SAMPLED = (
    "aten::exponential_", "aten::normal_", "aten::rand", "aten::rand_like", "aten::randint",
    "aten::randn", "aten::randn_like", "aten::randperm", "aten::uniform_",
)  # fmt: skip


class Recorder(TorchDispatchMode):
    """Keeps every mask and slope that torch draws, in order; notes casts to lower precision."""

    def __init__(self) -> None:
        super().__init__()
        self.masks: list[np.ndarray] = []
        self.narrowed = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket._qualified_op_name
        if name in ("aten::bernoulli_", "aten::bernoulli"):
            self.masks.append(as_numpy(out) != 0)
        elif name == "aten::native_dropout" and args[2]:
            self.masks.append(as_numpy(out[1]))
        elif name in ("aten::rrelu_with_noise", "aten::rrelu_with_noise_") and args[4:5] == (True,):
            self.masks.append(np.array(as_numpy(args[1])))  # the slopes, 1 above zero
        elif name in _SAMPLED:
            self.masks.append(np.array(as_numpy(out)))
        elif name == "aten::_to_copy" and getattr(args[0], "dtype", None) == torch.float64:
            self.narrowed |= out.is_floating_point() and out.dtype != torch.float64
        return out


@contextmanager
def record_masks() -> Iterator[list[np.ndarray]]:
    """Collect what torch's random layers draw inside the block, in order.

    >>> with record_masks() as masks:
    ...     _ = torch.nn.functional.dropout(torch.ones(4), 0.5)
    >>> masks[0].shape
    (4,)
    """
    with Recorder() as recorder:
        yield recorder.masks


def to_tensor(value: Any, dtype: torch.dtype | None = None, device: str = "cpu") -> Any:
    """Copy an array into a tensor; float arrays take ``dtype``."""
    if isinstance(value, torch.Tensor):
        tensor = value.detach().clone()
    else:
        tensor = torch.from_numpy(np.array(value, order="C"))
    if dtype is not None and tensor.is_floating_point():
        tensor = tensor.to(dtype)
    return tensor.to(device)


def run_torch(
    module: torch.nn.Module,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    *,
    dtype: torch.dtype,
    seed: int,
    training: bool,
    rng_state: torch.Tensor | None = None,
    record_calls: bool = False,
    cotangent: dict[str, np.ndarray] | None = None,
    device: str = "cpu",
) -> Run:
    """Run a copy of ``module`` once, forward and backward, in ``dtype``.

    The module, its mode, its buffers and torch's random state are left as they are. A module that
    says itself what takes a gradient (Wav2Vec2: ``x[:, None].requires_grad = True``) can be run for
    inputs alone that take none; the run notes it.
    """

    def forward(leaf: Callable[..., torch.Tensor]) -> tuple[Any, ...]:
        twin = copied(module).to(device=device, dtype=dtype)
        twin.train(training)
        twin.requires_grad_(True) if _all_float(twin) else _require_float_grads(twin)
        inputs = map_leaves(args, lambda a: leaf(a, dtype, device))
        named = map_leaves(dict(kwargs), lambda a: leaf(a, dtype, device))
        recorder = Recorder()
        calls: dict[str, Call] = {}
        with ExitStack() as stack:
            devices = list(range(torch.cuda.device_count())) if device != "cpu" else []
            stack.enter_context(torch.random.fork_rng(devices=devices))
            torch.manual_seed(seed) if rng_state is None else torch.set_rng_state(rng_state)
            if record_calls:
                stack.enter_context(_recording_calls(twin, calls))
            # torch.cond compiles itself, which no dispatch mode outlives; it means just this
            stack.enter_context(mock.patch.object(torch, "cond", _cond))
            stack.enter_context(float64_kernels())
            with recorder:
                result = twin(*map_leaves(inputs, _copy), **map_leaves(named, _copy))
        return twin, inputs, named, recorder, calls, dict(leaves(result))

    notes = []
    try:
        twin, inputs, named, recorder, calls, outputs = forward(_leaf)
    except RuntimeError as error:
        if "requires_grad flags of leaf variables" not in str(error):
            raise
        twin, inputs, named, recorder, calls, outputs = forward(to_tensor)
        notes.append(NO_INPUT_GRADIENT)
    run = Run({name: as_numpy(value) for name, value in outputs.items()}, masks=recorder.masks)
    run.calls = calls
    run.notes += [NARROWED, *notes] if recorder.narrowed else notes
    run.buffers = {name: as_numpy(b) for name, b in _persistent_buffers(twin)}
    ct = cotangents(run.outputs, seed) if cotangent is None else cotangent
    _backward(run, twin, outputs, ct, inputs, named)
    return run


def _copy(value: Any) -> Any:
    """What the module is given: torch does not write into what it computes the gradient of."""
    return value.clone() if isinstance(value, torch.Tensor) and value.requires_grad else value


def _cond(pred: Any, true_fn: Any, false_fn: Any, operands: Any = ()) -> Any:
    return (true_fn if pred else false_fn)(*operands)


def _backward(
    run: Run, twin: Any, outputs: dict[str, Any], ct: dict[str, np.ndarray], args: Any, kwargs: Any
) -> None:
    """Fill in the gradients of ``sum(ct * output)``."""
    parameters = {n: p for n, p in twin.named_parameters() if p.requires_grad}
    floats = {n: a for n, a in _named_inputs(args, kwargs) if a.requires_grad}
    total = sum(
        (
            (outputs[n] * to_tensor(c, outputs[n].dtype, outputs[n].device)).sum()
            for n, c in ct.items()
        ),
        start=torch.zeros(()),
    )
    wanted = [*parameters.values(), *floats.values()]
    if not wanted:
        return
    if total.requires_grad:
        grads: Any = torch.autograd.grad(total, wanted, allow_unused=True)
    else:
        grads = tuple(None for _ in wanted)
    dense = [
        np.zeros(tuple(w.shape), as_numpy(w).dtype) if g is None else as_numpy(g.to_dense())
        for w, g in zip(wanted, grads, strict=True)
    ]
    run.parameter_grads = dict(zip(parameters, dense, strict=False))
    run.input_grads = dict(zip(floats, dense[len(parameters) :], strict=True))


def _named_inputs(args: Any, kwargs: Any) -> Iterator[tuple[str, Any]]:
    for index, value in enumerate(args):
        yield from leaves(value, f"input[{index}]")
    for name, value in kwargs.items():
        yield from leaves(value, f"input[{name!r}]")


def _leaf(value: Any, dtype: torch.dtype, device: str) -> torch.Tensor:
    tensor = to_tensor(value, dtype, device)
    return tensor.requires_grad_(tensor.is_floating_point() and not is_mask(as_numpy(tensor)))


def _all_float(module: torch.nn.Module) -> bool:
    return all(p.is_floating_point() for p in module.parameters())


def _require_float_grads(module: torch.nn.Module) -> None:
    for p in module.parameters():
        p.requires_grad_(p.is_floating_point())


def _persistent_buffers(module: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    known = set(module.state_dict())
    return ((n, b) for n, b in module.named_buffers(remove_duplicate=False) if n in known)


@contextmanager
def _recording_calls(module: torch.nn.Module, calls: dict[str, Call]) -> Iterator[None]:
    """Keep the arguments and outputs of every submodule's first call.

    Calls with what is no array and no setting, a cache say, are left out.
    """
    handles = []
    left_out = set()

    def before(path: str) -> Any:
        def hook(mod: torch.nn.Module, args: Any, kwargs: Any) -> None:
            if path in calls or path in left_out:
                return
            try:
                list(leaves([args, kwargs]))
            except TypeError:
                left_out.add(path)
            else:
                calls[path] = Call(
                    map_leaves(args, as_numpy),
                    map_leaves(kwargs, as_numpy),
                    torch.get_rng_state(),
                    mod.training,
                )

        return hook

    def after(path: str) -> Any:
        def hook(mod: torch.nn.Module, args: Any, result: Any) -> None:
            if path in left_out or calls[path].outputs:
                return
            try:
                calls[path].outputs = {name: as_numpy(value) for name, value in leaves(result)}
            except TypeError:
                left_out.add(path)
                del calls[path]

        return hook

    for path, submodule in module.named_modules():
        if path:
            handles.append(submodule.register_forward_pre_hook(before(path), with_kwargs=True))
            handles.append(submodule.register_forward_hook(after(path)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
