"""Inputs that torch's own tests expect to be refused: fluxmod refuses them when traced."""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import torch
from torch.testing._internal.common_modules import ModuleErrorEnum
from torch.utils._pytree import tree_flatten, tree_unflatten

import fluxmod
from fluxmod.nn import functional as F
from parity_tests.nn.twins import build_flax, call_flax, flax_inputs, inputs

from .modules import case_of
from .ops import PREFIX, Twin, array_of, bound, shown, to_flax

LEFT = (
    ("NLLLoss", "", "the layer keeps its weight in param_dtype: no other dtype can meet it"),
    ("", "input dtype .* does not match weight dtype", "layers promote mixed dtypes, as Flax's do"),
)
"""Error inputs that say nothing here: class (all if empty), words of torch's text, the reason."""

KINDS = (ValueError, TypeError, IndexError, NotImplementedError)
HOME = str(Path(fluxmod.__file__).parent)


@dataclass
class Refusals:
    """What became of the inputs that torch refuses."""

    available: int = 0
    refused: int = 0
    left: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def see(self, label: str, call: Callable[[], Any]) -> None:
        """Note whether a call is refused by an error of ours."""
        problem = unclear(call)
        if problem:
            self.problems.append(f"{label}: {problem}")
        else:
            self.refused += 1


def unclear(call: Callable[[], Any]) -> str | None:
    """What is wrong with the refusal, or None: the right kind of error, raised by our code."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            call()
    except KINDS as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        if not last.filename.startswith(HOME):
            return f"raised in {last.filename}:{last.lineno}, not by fluxmod: {str(error)[:150]}"
        return None
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:150]}"
    return "accepted"


def of_function(op: Any, twin: Twin) -> Refusals:
    """Run the error inputs of a function."""
    result = Refusals()
    if op.error_inputs_func is None:
        return result
    name = op.name.removeprefix(PREFIX)
    for error in op.error_inputs("cpu"):
        result.available += 1
        given = bound(op, error.sample_input)
        label = f"{name}{shown(given)}"
        if reason := twin.leave(given):
            result.left[reason] = result.left.get(reason, 0) + 1
            continue
        with pytest.raises(error.error_type):
            getattr(torch.nn.functional, name)(**given)
        result.see(label, lambda given=given: _call(name, twin, given))
    return result


def _call(name: str, twin: Twin, given: dict[str, Any]) -> None:
    """Trace our function with the arguments; integers stay concrete."""
    keywords: dict[str, Any] = {}
    for key, value in given.items():
        if key not in twin.drop:
            move = twin.inputs.get(key)
            leaves, structure = tree_flatten(value)
            moved = [
                _moved(move, leaf) if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves
            ]
            keywords[twin.rename.get(key, key)] = tree_unflatten(moved, structure)
    floats = {
        k: v for k, v in keywords.items() if isinstance(v, np.ndarray) and v.dtype.kind in "fc"
    }
    rest = {k: v for k, v in keywords.items() if k not in floats}
    with jax.enable_x64(True):
        jax.eval_shape(lambda chosen: getattr(F, name)(**chosen, **rest, **twin.extra), floats)


def _moved(move: Any, tensor: torch.Tensor) -> np.ndarray:
    """Our order of axes, where the array has the axes at all."""
    array = array_of(tensor)
    try:
        return to_flax(move, array)
    except ValueError:
        return array


def of_class(info: Any) -> Refusals:
    """Run the error inputs of a class, in training and evaluation mode."""
    result = Refusals()
    if info.module_error_inputs_func is None:
        return result
    for train in (True, False):
        errors = info.module_error_inputs_func(
            info, device="cpu", dtype=torch.float64, requires_grad=False, training=train
        )
        for index, error in enumerate(errors):
            result.available += 1
            if reason := _left(info.module_cls.__name__, error.error_regex):
                result.left[reason] = result.left.get(reason, 0) + 1
                continue
            case = case_of(
                f"{info.module_cls.__name__}-{index}", info, error.module_error_input, train
            )
            building = error.error_on == ModuleErrorEnum.CONSTRUCTION_ERROR
            result.see(case.id, lambda case=case, building=building: _build(case, building))
    return result


def _left(name: str, text: str) -> str | None:
    """The reason why an error input of a class is left out, or None."""
    return next((why for of, words, why in LEFT if of in ("", name) and words in text), None)


def _build(case: Any, only: bool) -> None:
    with jax.enable_x64(True):
        ours = build_flax(case)
        if not only:
            call_flax(ours, case, flax_inputs(ours, inputs(case)))
