"""What fluxmod asks of XLA when it compiles a program itself."""

from __future__ import annotations

import functools
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
from flax import nnx
from jax.extend.core import get_opaque_trace_state

from ._recurrent import RNNBase

__all__ = ["compiler_options", "is_traced"]

_LIBRARY = "xla_cpu_experimental_ynn_fusion_type"
_PRODUCTS = "LIBRARY_FUSION_TYPE_DOT"
_PRODUCTS_ALONE = "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"
_SUMS = "LIBRARY_FUSION_TYPE_REDUCE"


def compiler_options(model: nnx.Module | None = None) -> dict[str, str]:
    """Return the options of ``jax.jit`` that ``fluxmod.jit`` and ``train.Trainer`` compile with.

    On the CPU, XLA hands products, sums and two-dimensional convolutions to a library (YNNPACK).
    Its products and sums are the faster ones and its convolutions the slower: 7.2 ms for 3.3 of
    5x5, 20 to 20 channels, 32 x 24 x 24; a training step of a U-Net takes 261 ms for 173. These
    options leave convolutions to XLA. Where no gradients are taken, the library gets products
    alone, without the element-wise loops around them: 55 ms for 67 of a GPT-2. In a recurrent loop
    that would cost more than it brings: 92 ms for 76 of an LSTM.

    Options count for one program, not for the process; where ``XLA_FLAGS`` has a choice of its own,
    or XLA knows no such option, there are none. Use them for programs of your own:
    ``jax.jit(step, compiler_options=nn.compiler_options())``.

    Args:
        model: the one that the program calls, where it takes no gradients.

    >>> f = jax.jit(lambda x: 2 * x, compiler_options=compiler_options())
    >>> f(3).item()
    6
    """
    if jax.default_backend() != "cpu" or _LIBRARY in os.environ.get("XLA_FLAGS", ""):
        return {}
    is_alone = model is not None and not _is_recurrent(model)
    options = {_LIBRARY: f"{_PRODUCTS_ALONE if is_alone else _PRODUCTS},{_SUMS}"}
    return dict(options) if _are_known(tuple(options.items())) else {}


def _is_recurrent(model: nnx.Module) -> bool:
    return any(isinstance(node, RNNBase) for _, node in nnx.iter_graph(model))


@functools.cache
def _are_known(options: tuple[tuple[str, str], ...]) -> bool:
    """Whether this XLA compiles with the options; an unknown name or value is an error."""
    try:
        jax.jit(lambda: 0, compiler_options=dict(options)).lower().compile()
    except (jax.errors.JaxRuntimeError, ValueError):
        return False
    return True


def is_traced() -> bool:
    """Whether this runs inside a transformation, where a program takes no options of its own.

    >>> is_traced(), jax.eval_shape(lambda: jax.numpy.asarray(is_traced())).shape
    (False, ())
    """
    return bool(get_opaque_trace_state() != _outside())


@functools.cache
def _outside() -> Any:
    """The state outside of every transformation: a new thread begins there."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(get_opaque_trace_state).result()
