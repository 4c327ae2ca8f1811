"""Planted bugs, made mechanically, to show that the suite catches and locates what it should.

Three kinds, each at one module of a model: a constructor argument is changed, a line of the
layer's own arithmetic (its ``__call__`` or the function it calls) is changed, or a weight is.
"""

from __future__ import annotations

import ast
import inspect
import linecache
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType, SimpleNamespace
from typing import Any

from flax import nnx

from fluxmod import nn
from fluxmod.nn import functional as F

from ._edits import definition_of, edits

__all__ = ["Mutation", "executed_lines", "mutations"]

INERT = frozenset(
    {
        "deterministic",  # the mode, set by train() and eval()
        "inplace",  # arrays are never changed in place
        "sparse",  # gradients are dense
        "affine",  # decided at construction; the leaves are there or not
        "track_running_stats",
        "elementwise_affine",
        "use_bias",
        "rng_collection",
        "broadcast_dims",
        "num_features",  # sizes that only the error messages read
        "in_features",
        "out_features",
        "in1_features",
        "in2_features",
        "out_channels",
        "num_embeddings",
        "features",
        "num_layers",
        "head_dim",
        "kdim",
        "vdim",
        "embed_dim",
        "kernel_shape",
        "init",  # read at construction only
        "num_parameters",
        "input_dilation",
        "enable_nested_tensor",
        "mask_check",
        "channels_last",
    }
)
"""Attributes that no arithmetic reads, or that are tested elsewhere; changing them is no bug."""

_READ_FROM_THE_KERNEL = frozenset({"kernel_size"})
"""What convolutions take from their kernel's shape instead."""


@dataclass(frozen=True, slots=True)
class Mutation:
    """One planted bug: where, of what kind, in words, and how to plant it in a copy."""

    path: str
    layer: str
    kind: str
    what: str
    plant: Callable[[nnx.Module], None]

    def apply(self, model: nnx.Module) -> nnx.Module:
        """Return a copy of the model with the bug in it."""
        twin = nnx.clone(model)
        self.plant(dict(nn.named_modules(twin, remove_duplicate=False))[self.path])
        return twin

    def __str__(self) -> str:
        return f"{self.layer} at {self.path or 'the root'}, {self.kind}: {self.what}"


Lines = frozenset[tuple[str, int]]


def mutations(
    model: nnx.Module, path: str | None = None, executed: Lines | None = None
) -> Iterator[Mutation]:
    """Yield every planted bug that the three kinds make, in a fixed order.

    Args:
        path: only those at this module.
        executed: (file, line) pairs that a forward pass ran, from ``executed_lines``; source edits
            elsewhere are left out.

    >>> found = list(mutations(nn.LayerNorm(2, rngs=nnx.Rngs(0)), ""))
    >>> sorted({m.kind for m in found})
    ['argument', 'source', 'weight']
    """
    for name, module in nn.named_modules(model):
        if path is None or name == path:
            yield from _arguments(name, module)
            yield from _weights(name, module)
            yield from _sources(name, module, executed)


def executed_lines(run: Callable[[], Any]) -> Lines:
    """Call ``run`` and return the lines of ``fluxmod.nn`` that it executed."""
    package = str(Path(nn.__file__).parent)
    lines: set[tuple[str, int]] = set()

    def trace(frame: Any, event: str, arg: Any) -> Any:
        del arg
        file = frame.f_code.co_filename
        if not file.startswith(package):
            return None
        if event == "line":
            lines.add((file, frame.f_lineno))
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        run()
    finally:
        sys.settrace(before)
    return frozenset(lines)


def _arguments(path: str, module: nnx.Module) -> Iterator[Mutation]:
    """Change one static attribute: numbers move, flags flip, named variants swap."""
    for name, value in sorted(vars(module).items()):
        if name.startswith("_") or name in INERT:
            continue
        if isinstance(module, nnx.Conv) and name in _READ_FROM_THE_KERNEL:
            continue
        for other in _others(value):

            def plant(target: nnx.Module, name: str = name, other: Any = other) -> None:
                object.__setattr__(target, name, other)

            what = f"{name}={value!r} becomes {other!r}"
            yield Mutation(path, type(module).__name__, "argument", what, plant)


_SWAPS = {
    "none": "tanh",
    "tanh": "none",
    "zeros": "circular",
    "reflect": "replicate",
    "replicate": "zeros",
    "circular": "zeros",
    "mean": "sum",
    "sum": "mean",
}


def _others(value: Any) -> Iterator[Any]:
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, float):
        yield value * 1.25 if value else 0.125
    elif isinstance(value, int):
        yield value + 1
    elif isinstance(value, str) and value in _SWAPS:
        yield _SWAPS[value]
    elif isinstance(value, tuple) and value and all(type(v) is int for v in value):
        yield (value[0] + 1, *value[1:])


def _weights(path: str, module: nnx.Module) -> Iterator[Mutation]:
    """Zero a vector, turn a matrix around: a lost bias, a wrong layout."""
    for name, variable in nn.named_variables(module):
        value = variable.get_value()
        if not isinstance(variable, nnx.Param):
            continue
        if value.ndim == 2 and value.shape[0] == value.shape[1]:
            what, wrong = "is transposed", value.T
        elif value.any():
            what, wrong = "is lost (zeros)", value * 0
        else:
            what, wrong = "is not zero (ones)", value + 1

        def plant(target: nnx.Module, name: str = name, wrong: Any = wrong) -> None:
            getattr(target, name).set_value(wrong)

        yield Mutation(path, type(module).__name__, "weight", f"{name} {what}", plant)


def _sources(path: str, module: nnx.Module, executed: Lines | None) -> Iterator[Mutation]:
    """Edit one line of the layer's call, or of the functions of ``F`` that it calls."""
    call = type(module).__call__
    if not _is_ours(call):
        return
    for tree, what in _edits_of(call, executed):

        def plant(target: nnx.Module, tree: ast.Module = tree) -> None:
            _give_call(target, _compile(tree, call, dict(call.__globals__)))

        yield Mutation(path, type(module).__name__, "source", what, plant)
    for name in _functions_called(call):
        function = inspect.unwrap(getattr(F, name))
        for tree, what in _edits_of(function, executed):

            def plant_function(
                target: nnx.Module,
                tree: ast.Module = tree,
                name: str = name,
                function: Any = function,
            ) -> None:
                edited = _compile(tree, function, dict(function.__globals__))
                space = SimpleNamespace(**{**vars(F), name: edited})
                scope = {**call.__globals__, "F": space}
                _give_call(target, _compile(_parse(call), call, scope))

            yield Mutation(
                path, type(module).__name__, "source", f"F.{name}: {what}", plant_function
            )


def _edits_of(function: Any, executed: Lines | None) -> Iterator[tuple[ast.Module, str]]:
    """Edits of a function, on executed lines only if these are known."""
    file = inspect.getsourcefile(function) or ""
    first = inspect.getsourcelines(function)[1]
    for tree, what, line in edits(_parse(function)):
        number = first + line - 1
        if executed is None or (file, number) in executed:
            yield tree, f"{what}   in: {linecache.getline(file, number).strip()}"


def _is_ours(function: Any) -> bool:
    return isinstance(function, FunctionType) and function.__module__.startswith("fluxmod.nn")


def _parse(function: Any) -> ast.Module:
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    definition_of(tree).decorator_list = []
    return tree


def _functions_called(function: Any) -> list[str]:
    """Names of the functions of ``F`` that a method calls by that name."""
    found = [
        node.func.attr
        for node in ast.walk(_parse(function))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "F"
    ]
    return [name for name in dict.fromkeys(found) if _is_ours(getattr(F, name, None))]


def _compile(tree: ast.Module, like: Any, scope: dict[str, Any]) -> Any:
    """Compile an edited definition in the scope of the function that it replaces."""
    ast.fix_missing_locations(tree)
    code = compile(tree, inspect.getsourcefile(like) or "<edited>", "exec")
    scope["__class__"] = None
    exec(code, scope)
    return scope[like.__name__]


def _give_call(target: nnx.Module, call: Any) -> None:
    """Make one instance use another ``__call__``, by a subclass of its own."""
    cls = type(target)
    edited = type(cls.__name__, (cls,), {"__call__": call, "__doc__": cls.__doc__})
    object.__setattr__(target, "__class__", edited)
