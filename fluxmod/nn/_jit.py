"""A compiled call of a model that does not walk through the model each time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from flax import nnx

from ._compiler import compiler_options, is_traced
from ._precision import compute_in

__all__ = ["Compiled", "jit"]

Values = list[Any]


def jit(model: nnx.Module, *, dtype: Any = None, **options: Any) -> Compiled:
    """Compile the call of a model; ``fluxmod.jit(model)(x)`` is ``model(x)``, fast.

    ``nnx.jit`` takes a model apart and puts it together at every call, which costs more than a
    small model computes. Here that is done once for each mode: a call reads the present values of
    the Variables, runs the compiled program, and writes back what the model changed (running
    statistics, random streams). Weights that are loaded or trained in between, ``train()`` and
    ``eval()`` are seen.

    Args:
        model: any ``nnx.Module``. Children and Variables added later are not seen: call ``jit``
            again.
        dtype: what the layers compute in, as ``compute_in`` has it; the model keeps its own.
        **options: of ``jax.jit``, by name: ``static_argnames``, ``compiler_options`` in place of
            ``nn.compiler_options(model)``.

    >>> from fluxmod import nn
    >>> import jax.numpy as jnp
    >>> model = nn.Sequential(nn.Linear(3, 4, rngs=nnx.Rngs(0)), nn.BatchNorm1d(4))
    >>> fast = jit(model)
    >>> fast(jnp.ones((2, 3))).shape, int(model[1].num_batches_tracked[...])
    ((2, 4), 1)
    """
    return Compiled(model, options, dtype)


class Compiled:
    """What ``jit`` returns; ``model`` is the model it calls."""

    def __init__(self, model: nnx.Module, options: dict[str, Any], dtype: Any = None) -> None:
        self.model = model
        self._dtype = dtype
        self._options = options
        nodes = [node for _, node in nnx.iter_graph(model)]
        self._variables = _variables(model)
        self._switched = [node for node in nodes if hasattr(node, "deterministic")]
        self._programs: dict[tuple[bool, ...], Callable[..., Any]] = {}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        inner = is_traced()
        mode = (inner, *[node.deterministic for node in self._switched])
        program = self._programs.get(mode)
        if program is None:
            program = self._programs[mode] = self._program(inner)
        values = [variable.get_raw_value() for variable in self._variables]
        output, changed = program(values, *args, **kwargs)
        for index, value in changed.items():
            self._variables[index].set_raw_value(value)
        return output

    def _program(self, inner: bool) -> Callable[..., Any]:
        """Compile for the model's present mode; a program within another has no options."""
        graph, state = nnx.split(self.model)

        def call(values: Values, *args: Any, **kwargs: Any) -> Any:
            twin = nnx.merge(graph, state, copy=True)
            if self._dtype is not None:
                compute_in(twin, self._dtype)
            variables = _variables(twin)
            for variable, value in zip(variables, values, strict=True):
                variable.set_raw_value(value)
            output = twin(*args, **kwargs)
            after = [variable.get_raw_value() for variable in variables]
            pairs = enumerate(zip(after, values, strict=True))
            return output, {i: new for i, (new, old) in pairs if new is not old}

        ours = {} if inner else {"compiler_options": compiler_options(self.model)}
        return jax.jit(call, **{**ours, **self._options})


def _variables(model: nnx.Module) -> list[nnx.Variable[Any]]:
    """Every Variable once, in an order that a copy of the model shares."""
    return [node for _, node in nnx.iter_graph(model) if isinstance(node, nnx.Variable)]
