"""Tracing a torch module: ``torch.export`` for the operators, the live frames for the words.

``torch.export`` runs the module's own Python once, in each mode; ``recording`` notes what it does.
"""

from __future__ import annotations

import inspect
import logging
import os
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass, field
from io import StringIO
from typing import Any
from unittest import mock

import torch
import torch.utils._pytree as pytree

from fluxmod._errors import CaptureError, UnsupportedOpError
from fluxmod._transformers import as_eager, without_cache

from .broadcast import vmap_as_broadcasting
from .composite import written_out
from .recording import CallRecord, Recorder, recording, records_of
from .rows import is_open
from .spans import leaks
from .words import Obstacle, refused

__all__ = ["Trace", "capture"]

_TORCH = os.path.dirname(torch.__file__)
_ALWAYS = (
    "{} among statements that torch skips where nothing is found (if mask.any(), or a loop over "
    "nonzero): a compiled program runs them always, so they may only write the rows in question"
)
_DECIDES = (
    "Python decides on how many rows are found, which a compiled program does not know; it may "
    "only skip statements that write these rows"
)


@dataclass(frozen=True)
class Trace:
    """One tracing of a module in one mode."""

    root: CallRecord
    placeholders: list[torch.fx.Node]
    inputs: list[torch.fx.Node]  # the user's tensors, flattened
    states: dict[torch.fx.Node, torch.Tensor]  # parameters, buffers and constants
    training: bool
    branches: dict[torch.fx.Node, torch.fx.Graph] = field(default_factory=dict)  # of torch.cond
    assumed: tuple[str, ...] = ()  # what decisions took for granted


def capture(
    module: torch.nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    training: bool,
    free: Mapping[str, Sequence[int]] | None = None,
) -> Trace:
    """Trace a module in one mode; its own mode, weights and buffers stay as they are.

    Args:
        free: the axes of forward's arguments whose size may differ from the example's.

    Raises:
        ValueError: ``free`` has a name that forward does not have.
        CaptureError: torch cannot trace it; the message says where and why.
    """
    modes = [(m, m.training) for m in module.modules()]
    module.train(training)
    try:
        with without_cache(module):
            return _attempts(module, args, kwargs, training, free)
    finally:
        for each, mode in modes:
            each.training = mode


def _attempts(module: torch.nn.Module, *settings: Any) -> Trace:
    """Trace; what fails is traced again with the masks that transformers makes when it runs."""
    try:
        return _trace(module, *settings)
    except CaptureError as error:
        with as_eager() as differs:
            if not differs:
                raise
            try:
                return _trace(module, *settings)
            except CaptureError:
                raise error from None


def _trace(
    module: torch.nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    training: bool,
    free: Mapping[str, Sequence[int]] | None,
) -> Trace:
    failures: list[tuple[Exception, Recorder]] = []
    with_rows: list[tuple[Recorder, Any]] = []  # arrays in it have sizes that depend on values
    # the batch and the length of tokens; the batch alone; nothing; or what is asked for
    tried: list[Any] = []
    for axes in (2, 1, 0) if free is None else (2,):
        shapes = _shapes(module, args, kwargs, axes, free or {})
        if shapes in tried:
            continue
        tried.append(shapes)
        recorder = Recorder(module)
        try:
            try:
                program = _export(recorder, module, args, kwargs, shapes)
            except Exception:
                if not recorder.repeats.watching:
                    raise
                recorder = Recorder(module, repeating=False)
                program = _export(recorder, module, args, kwargs, shapes)
        except Exception as error:  # torch raises of every kind here
            failures.append((error, recorder))
            continue
        if recorder.root is None:
            raise CaptureError(f"port: torch.export never called {type(module).__name__}.")
        if any(_is_open(node) for node in program.graph.nodes):
            with_rows.append((recorder, program))
            continue
        return _finish(recorder, program, module, training)
    if with_rows:  # the one with the most free axes, unless more depends on values in it
        recorder, program = min(with_rows, key=lambda found: _count_open(found[1]))
        return _finish(recorder, program, module, training)
    first, recorder = failures[0]
    mode = "training" if training else "evaluation"
    text = f"port: {type(module).__name__} cannot be traced in {mode} mode.\n"
    raise CaptureError(text + _reason(first, recorder)) from first


def _reason(error: Exception, recorder: Recorder) -> str:
    """What stopped the tracing, in which module, at which line, and what to do."""
    known = type(error).__name__
    what = f"{known}: {str(error).strip().splitlines()[0] if str(error).strip() else 'no message'}"
    advice = ""
    if isinstance(error, UnsupportedOpError):
        what = str(error)
    if known in ("GuardOnDataDependentSymNode", "DataDependentOutputException"):
        what = "Python decides on the values of a tensor"
        advice = "\n    Write it with torch.where or torch.cond, or give the value as an argument."
    lines = [f"  {what}", f"    in {recorder.failed or 'the model itself'}"]
    frames = [f for f in traceback.extract_tb(error.__traceback__) if _is_users(f.filename)]
    if frames:
        lines.append(f"    at {frames[-1].filename}:{frames[-1].lineno}: {frames[-1].line}")
    return "\n".join(lines) + advice


def _is_users(filename: str) -> bool:
    return not filename.startswith((_TORCH, "<", os.path.dirname(__file__)))


def _export(
    recorder: Recorder, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], shapes: Any
) -> Any:
    watched = recorder.repeats.watched()
    with (
        recording(recorder),
        watched,
        vmap_as_broadcasting(),
        written_out(recorder.value_of),
        _quiet(),
    ):
        return torch.export.export(module, args, kwargs, dynamic_shapes=shapes, strict=False)


def _shapes(
    module: Any, args: Any, kwargs: Any, axes: int, free: Mapping[str, Sequence[int]]
) -> dict[str, Any] | None:
    """The free axes under the names of forward's arguments, ``axes`` of those that may be free
    and those asked for; None if there are none.
    """
    bound = dict(inspect.signature(module.forward).bind(*args, **kwargs).arguments)
    known = {**bound, **bound.get("kwargs", {})}
    if unknown := sorted({*free} - {*known}):
        raise ValueError(
            f"porter.Options: dynamic names {', '.join(unknown)}; {type(module).__name__}.forward "
            f"was called with {', '.join(k for k in known if k != 'kwargs')}."
        )
    count = 0

    def shapes(tree: Any, name: str) -> Any:
        def one(tensor: Any) -> Any:
            nonlocal count
            if not isinstance(tensor, torch.Tensor):
                return None
            asked = free.get(name)
            if asked is None:
                chosen = dict.fromkeys(_free(tensor)[:axes], torch.export.Dim.AUTO)
            else:
                chosen = {a % tensor.dim(): torch.export.Dim.DYNAMIC for a in asked}
            count += len(chosen)
            return chosen

        return pytree.tree_map(one, tree)

    found = {
        name: {k: shapes(v, k) for k, v in tree.items()} if name == "kwargs" else shapes(tree, name)
        for name, tree in bound.items()
    }
    return found if count else None


def _is_open(node: torch.fx.Node) -> bool:
    """Whether a node gives an array with a size that only its values tell."""
    val = node.meta.get("val")
    return isinstance(val, torch.Tensor) and any(map(is_open, val.shape))


def _count_open(program: Any) -> int:
    """How many sizes of a program only values tell."""
    return len({str(s) for n in program.graph.nodes if _is_open(n) for s in n.meta["val"].shape})


def _free(tensor: torch.Tensor) -> tuple[int, ...]:
    """The axes whose size may differ from the example's: the batch, and the length of tokens."""
    if not tensor.dim():
        return ()
    return (0, 1) if tensor.dim() == 2 and not tensor.is_floating_point() else (0,)


@contextmanager
def _quiet() -> Iterator[None]:
    """torch's own reports of a failed trace are long; ours names the place."""
    loggers = [logging.getLogger(name) for name in ("torch", "torch.export", "torch.fx")]
    names = [n for n in logging.root.manager.loggerDict if n.startswith("torch")]
    loggers += [logging.getLogger(name) for name in names]
    before = [logger.disabled for logger in loggers]
    for logger in loggers:
        logger.disabled = True
    # whether a mask is causal is a hint for torch's kernels, found by looking at its values
    hint = mock.patch("torch.nn.modules.transformer._detect_is_causal_mask", return_value=False)
    try:
        with warnings.catch_warnings(), hint, redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, state in zip(loggers, before, strict=True):
            logger.disabled = state


def _finish(recorder: Recorder, program: Any, module: torch.nn.Module, training: bool) -> Trace:
    """Say which placeholder is which parameter, buffer, constant or input."""
    from torch.export.graph_signature import InputKind

    assert recorder.root is not None  # noqa: S101 - for the type checker
    if recorder.spans or recorder.unclear:
        recorder.leave_branches(None)
        found = leaks(recorder.spans, list(records_of(recorder.root)), recorder.root.out)
        obstacles = [Obstacle("", _ALWAYS.format(name), where) for name, where in found]
        obstacles += [Obstacle("", _DECIDES, where) for where in recorder.unclear]
        if obstacles:
            raise refused(module, list(dict.fromkeys(obstacles)))
    states: dict[torch.fx.Node, torch.Tensor] = {}
    inputs: list[torch.fx.Node] = []
    tensors: dict[str, torch.Tensor] = dict(module.named_parameters(remove_duplicate=False))
    tensors |= dict(module.named_buffers(remove_duplicate=False))
    specs = program.graph_signature.input_specs
    kept = [s for s in specs if s.kind != InputKind.TOKEN]
    placeholders = recorder.placeholders
    # constants are lifted to inputs after the tracing: only the traced ones are placeholders
    lifted = [s for s in kept if s.kind in (InputKind.CONSTANT_TENSOR, InputKind.CUSTOM_OBJ)]
    if len(placeholders) == len(kept) - len(lifted):
        kept = [s for s in kept if s not in lifted]
    for node, spec in zip(placeholders, kept, strict=True):
        if spec.kind in (InputKind.PARAMETER, InputKind.BUFFER):
            states[node] = tensors[spec.target]
        elif spec.kind == InputKind.CONSTANT_TENSOR:
            states[node] = program.constants[spec.target]
        else:
            inputs.append(node)
    for node, tensor in recorder.attributes.items():
        if isinstance(tensor, torch.Tensor):
            states[node] = tensor
    held: dict[torch.fx.Node, Any] = {**recorder.attributes}
    branches = {n: g.graph for n, g in held.items() if isinstance(g, torch.fx.GraphModule)}
    assumed = tuple(recorder.assumed)
    return Trace(recorder.root, placeholders, inputs, states, training, branches, assumed)
