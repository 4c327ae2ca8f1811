"""What is timed: a torch module, its inputs and its counterpart."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from flax import nnx

from fluxmod import convert, porter

__all__ = ["Case"]


@dataclass(frozen=True)
class Case:
    """A model at a batch size.

    Training minimises the cross entropy of the first output, logits over its last axis, where
    ``labels`` are given, and the mean of its squares otherwise; the optimizer is Adam.

    Args:
        name: how its rows are called.
        build: makes the torch module.
        args, kwargs: the inputs, tensors in torch's layout.
        labels: classes, one for each row of the logits.
        flax: makes the counterpart, for a model written by hand; else the module is ported.
        plain: makes the same model of ``flax.nnx`` alone, one more variant.
    """

    name: str
    build: Callable[[], torch.nn.Module]
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    labels: torch.Tensor | None = None
    flax: Callable[[], nnx.Module] | None = None
    plain: Callable[[nnx.Rngs], nnx.Module] | None = None

    @property
    def batch(self) -> int:
        """Rows of the first tensor."""
        return next(t.shape[0] for t in self.tensors)

    @property
    def tensors(self) -> list[torch.Tensor]:
        """The tensors among the inputs."""
        given = (*self.args, *self.kwargs.values())
        return [value for value in given if isinstance(value, torch.Tensor)]

    @property
    def images(self) -> bool:
        """Whether an input has the axes of a map."""
        return any(t.ndim == 4 and t.is_floating_point() for t in self.tensors)

    def in_torch(self) -> torch.nn.Module:
        """Build the torch module, always with the same weights."""
        torch.manual_seed(0)
        return self.build()

    def in_flax(self) -> nnx.Module:
        """Its counterpart, with the same weights: a new one each time."""
        return nnx.clone(self._counterpart)

    @cached_property
    def _counterpart(self) -> nnx.Module:
        module = self.in_torch()
        if self.flax is None:
            return porter.port(module, *self.args, **self.kwargs)
        model = self.flax()
        convert.to_flax(module, model)
        return model
