"""Arguments of an optimizer beside torch's."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch

HOW_TO_COMPUTE = {"params", "foreach", "capturable", "differentiable", "fused"}
"""Arguments of torch that choose an implementation, not a result."""


def check_signature(ours: Callable[..., Any], theirs: Callable[..., Any]) -> None:
    """Require torch's names, defaults and kinds; torch's order of the positional ones."""
    got = {n: p for n, p in inspect.signature(ours).parameters.items() if n != "torch_axes"}
    want = {
        name: p
        for name, p in inspect.signature(theirs).parameters.items()
        if name not in HOW_TO_COMPUTE
    }
    assert set(got) == set(want)
    assert {n: (p.default, p.kind) for n, p in got.items()} == {
        n: (p.default, p.kind) for n, p in want.items()
    }
    positional = [n for n, p in want.items() if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert list(got)[: len(positional)] == positional


def both_refuse(
    ours: Callable[..., Any], theirs: Callable[..., Any], settings: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        theirs([torch.zeros(1)], **settings)
    with pytest.raises(ValueError, match=r"^\w+: .*got "):
        ours(**settings)
