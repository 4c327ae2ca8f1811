"""Where Python asks a traced tensor for its values, or for how many rows it has."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import Any, Protocol
from unittest import mock

import torch
from torch.fx.experimental import symbolic_shapes

__all__ = ["Answers", "answered"]

_METHODS = ("__bool__", "__float__", "__index__", "__int__", "item", "tolist")


class Answers(Protocol):
    """Who knows the answers; None is "torch shall say", which is an error while it traces."""

    def value_of(self, tensor: torch.Tensor) -> torch.Tensor | None:
        """What a tensor holds at every call of the model."""

    def kept(self, tensor: torch.Tensor, frame: FrameType) -> bool | None:
        """The answer with which an array is kept that Python would leave out if it did nothing."""

    def sized(self, question: torch.SymBool, answer: bool, frame: FrameType) -> None:
        """Python has asked about sizes, and torch said that."""

    def each(self, tensor: torch.Tensor) -> Iterator[torch.Tensor] | None:
        """Every row that an array with a number of rows that values decide can have."""


@contextmanager
def answered(answers: Answers) -> Iterator[None]:
    """While torch traces in this thread, answer the questions that no input needs to decide."""
    owner = threading.get_ident()
    write, iterate = torch.Tensor.__format__, torch.Tensor.__iter__
    constrain, decide = symbolic_shapes._constrain_range_for_size, torch.SymBool.__bool__

    def method(name: str) -> Any:
        original = getattr(torch.Tensor, name)

        def asked(tensor: torch.Tensor) -> Any:
            if threading.get_ident() == owner:
                if (known := answers.value_of(tensor)) is not None:
                    return getattr(known, name)()
                if name in ("__bool__", "item"):
                    if (kept := answers.kept(tensor, sys._getframe(1))) is not None:
                        return kept
            return original(tensor)

        return asked

    def formatted(tensor: torch.Tensor, spec: str) -> str:
        """``f"expert_{index}"``"""
        if threading.get_ident() == owner:
            if (known := answers.value_of(tensor)) is not None and not known.dim():
                return format(known.item(), spec)
        return write(tensor, spec)

    def visited(tensor: torch.Tensor) -> Any:
        """``for row in array``"""
        if threading.get_ident() == owner:
            if (rows := answers.each(tensor)) is not None:
                return rows
        return iterate(tensor)

    def decided(question: torch.SymBool) -> bool:
        """``if rows.shape[0] > 0``"""
        answer = decide(question)
        if threading.get_ident() == owner:
            answers.sized(question, answer, sys._getframe(1))
        return answer

    def several(size: Any, min: int | None = None, max: int | None = None) -> None:
        """A number of rows: a special case for none or one would have no effect on the rest."""
        constrain(size, min=2 if min is None else min, max=max)

    with ExitStack() as stack:
        for name in _METHODS:
            stack.enter_context(mock.patch.object(torch.Tensor, name, method(name)))
        stack.enter_context(mock.patch.object(torch.Tensor, "__format__", formatted))
        stack.enter_context(mock.patch.object(torch.Tensor, "__iter__", visited))
        stack.enter_context(mock.patch.object(torch.SymBool, "__bool__", decided))
        stack.enter_context(mock.patch.object(symbolic_shapes, constrain.__name__, several))
        yield
