"""Operators that torch has in lower precision alone, written out for the runs in float64."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from typing import Any
from unittest import mock

import torch

__all__ = ["float64_kernels"]


@contextmanager
def float64_kernels() -> Iterator[None]:
    """Give ``torch.nn.functional.grouped_mm`` float64; other dtypes keep torch's kernel."""
    with ExitStack() as stack:
        for owner, name in ((torch.nn.functional, "grouped_mm"), (torch, "_grouped_mm")):
            if hasattr(owner, name):  # the second is the older name
                patched = _grouped_mm(getattr(owner, name))
                stack.enter_context(mock.patch.object(owner, name, patched))
        yield


def _grouped_mm(kernel: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    def grouped_mm(
        mat_a: torch.Tensor, mat_b: torch.Tensor, offs: torch.Tensor | None = None, **rest: Any
    ) -> torch.Tensor:
        if mat_a.dtype != torch.float64 or rest.get("bias") is not None:
            return kernel(mat_a, mat_b, offs=offs, **rest)
        if offs is None:
            return torch.bmm(mat_a, mat_b)
        groups = list(enumerate(pairwise([0, *offs.tolist()])))
        if mat_a.dim() == 2 and mat_b.dim() == 3:  # groups of rows; what is beyond them stays zero
            parts = [mat_a[i:j] @ mat_b[g] for g, (i, j) in groups]
            rest_of = mat_a.new_zeros(mat_a.shape[0] - int(offs[-1]), mat_b.shape[-1])
            return torch.cat([*parts, rest_of])
        if mat_a.dim() == 3:  # groups of columns
            parts = [mat_a[g] @ mat_b[:, i:j] for g, (i, j) in groups]
            rest_of = mat_a.new_zeros(mat_a.shape[1], mat_b.shape[1] - int(offs[-1]))
            return torch.cat([*parts, rest_of], 1)
        return torch.stack([mat_a[:, i:j] @ mat_b[i:j] for _, (i, j) in groups])

    return grouped_mm
