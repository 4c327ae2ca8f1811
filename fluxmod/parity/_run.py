"""What one execution of a module leaves behind, in torch's names and layouts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from fluxmod._errors import FluxmodError

__all__ = ["FAULTS", "Call", "Run", "cotangents", "fault_text"]

FAULTS = (
    FluxmodError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What a faulty model may raise when it is called: a finding about the model, not a crash."""

_OF_THE_MACHINE = ("RESOURCE_EXHAUSTED", "Cannot allocate memory", "Out of memory")


def fault_text(error: Exception) -> str:
    """Return the error as one text; one that the machine is to blame for is raised again.

    >>> fault_text(TypeError("two arguments"))
    'TypeError: two arguments'
    """
    blame = isinstance(error, jax.errors.JaxRuntimeError) and any(
        words in str(error) for words in _OF_THE_MACHINE
    )
    if blame:
        raise error
    return f"{type(error).__name__}: {error}"


@dataclass(slots=True)
class Run:
    """Everything that two executions are compared by.

    ``outputs`` by name, gradients of a random linear functional of all outputs with respect to
    float arguments and parameters, and the buffers after the call.
    """

    outputs: dict[str, np.ndarray]
    input_grads: dict[str, np.ndarray] = field(default_factory=dict)
    parameter_grads: dict[str, np.ndarray] = field(default_factory=dict)
    buffers: dict[str, np.ndarray] = field(default_factory=dict)
    masks: list[np.ndarray] = field(default_factory=list)
    calls: dict[str, Call] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def groups(self) -> dict[str, dict[str, np.ndarray]]:
        """The four groups that share a scale."""
        return {
            "output": self.outputs,
            "input gradient": self.input_grads,
            "parameter gradient": self.parameter_grads,
            "buffer": self.buffers,
        }


@dataclass(slots=True)
class Call:
    """The first call of a submodule: arguments, torch's random state before it, outputs."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    rng_state: Any
    training: bool
    outputs: dict[str, np.ndarray] = field(default_factory=dict)


def cotangents(outputs: dict[str, np.ndarray], seed: int) -> dict[str, np.ndarray]:
    """Draw the weights of the linear functional, N(0, 1), one per element of each float output."""
    rng = np.random.default_rng([seed, 7])
    return {
        name: rng.standard_normal(value.shape)
        for name, value in outputs.items()
        if np.issubdtype(value.dtype, np.floating)
    }
