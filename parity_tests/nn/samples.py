"""torch's own test inputs for its modules, as cases: constructors and inputs nobody here wrote.

``torch.testing._internal`` is private and may change with any release: tests use it, nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch.testing._internal.common_modules import module_db

from .twins import Case

FIRST_INPUT = "input"
"""The keyword under which some samples give the first argument."""


def cases_of(
    theirs: type,
    ours: Callable[..., Any],
    *,
    every: bool = True,
    flax_kwargs: Mapping[str, Any] | None = None,
) -> Iterator[Case]:
    """Yield one case per sample of a torch class, in training and in evaluation mode.

    Args:
        every: all samples; otherwise the first of every distinct constructor call.
    """
    (info,) = [info for info in module_db if info.module_cls is theirs]
    for train in (True, False):
        torch.manual_seed(0)
        seen: set[str] = set()
        samples = info.module_inputs_func(info, "cpu", torch.float64, True, train)
        for index, sample in enumerate(samples):
            made = sample.constructor_input
            text = repr((made.args, sorted(made.kwargs.items())))
            if every or text not in seen:
                seen.add(text)
                name = f"{theirs.__name__}-{index}-{sample.desc or 'plain'}"
                yield _case(name, sample, theirs, ours, train, flax_kwargs or {})


def _case(
    name: str,
    sample: Any,
    theirs: type,
    ours: Callable[..., Any],
    train: bool,
    flax_kwargs: Mapping[str, Any],
) -> Case:
    made, given = sample.constructor_input, sample.forward_input
    keywords = {k: _array(v) for k, v in given.kwargs.items()}
    positional = [_array(v) for v in given.args]
    if not positional and FIRST_INPUT in keywords:
        positional = [keywords.pop(FIRST_INPUT)]
    arrays = tuple(positional)
    return Case(
        id=f"{name}-{'train' if train else 'eval'}",
        torch=theirs,
        flax=ours,
        args=made.args,
        kwargs=made.kwargs,
        x=lambda rng: arrays,
        call=keywords,
        train=train,
        flax_kwargs=flax_kwargs,
    )


def _array(value: Any) -> Any:
    """A tensor as numpy; contiguous, because a strided one makes torch choose other kernels."""
    if not isinstance(value, torch.Tensor):
        return value
    return np.ascontiguousarray(value.detach().numpy()).reshape(tuple(value.shape))
