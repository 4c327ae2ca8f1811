"""torch's older names, which warn."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from . import _draw, _fill

__all__ = [
    "constant",
    "dirac",
    "eye",
    "kaiming_normal",
    "kaiming_uniform",
    "normal",
    "orthogonal",
    "sparse",
    "uniform",
    "xavier_normal",
    "xavier_uniform",
]

P = ParamSpec("P")
R = TypeVar("R")


def _older_name(function: Callable[P, R]) -> Callable[P, R]:
    new = function.__name__
    old = new[:-1]

    @functools.wraps(function)
    def warning(*args: P.args, **kwargs: P.kwargs) -> R:
        warnings.warn(f"nn.init.{old} is now nn.init.{new}.", FutureWarning, stacklevel=2)
        return function(*args, **kwargs)

    warning.__name__ = warning.__qualname__ = old
    warning.__doc__ = f"Do what ``{new}`` does, with a warning: this is its older name."
    return warning


constant = _older_name(_fill.constant_)
dirac = _older_name(_fill.dirac_)
eye = _older_name(_fill.eye_)
kaiming_normal = _older_name(_draw.kaiming_normal_)
kaiming_uniform = _older_name(_draw.kaiming_uniform_)
normal = _older_name(_draw.normal_)
orthogonal = _older_name(_draw.orthogonal_)
sparse = _older_name(_draw.sparse_)
uniform = _older_name(_draw.uniform_)
xavier_normal = _older_name(_draw.xavier_normal_)
xavier_uniform = _older_name(_draw.xavier_uniform_)
