"""Operators that torch itself writes in terms of others: traced as those where no rule is ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch.utils._python_dispatch import _disable_current_modes

from . import overrides
from .ir import plain_name
from .lower import ALIASES, rule_of

__all__ = ["written_out"]

_NUMBERS = (torch.ops.aten.item.default, torch.ops.aten._local_scalar_dense.default)
_PROXY = "torch.fx.experimental.proxy_tensor.maybe_handle_decomp"
_KEPT = {  # what the rest of the porter knows without a rule, and what gives no array
    "contiguous", "resolve_conj", "resolve_neg", "positive", "mT", "mH", "matrix_H", "adjoint",
    "data", "item", "is_nonzero", "to", "type_as", "lstm", "gru", "rnn_tanh", "rnn_relu",
    "_pad_packed_sequence", "pad_sequence", "size", "stride", "dim", "numel", "sym_size",
    "sym_stride", "sym_numel", "sym_storage_offset", "storage_offset", "is_floating_point",
    "is_complex", "is_contiguous", "where", "unsafe_chunk", "retain_grad", "get_device",
}  # fmt: skip


@contextmanager
def written_out(known: Callable[[torch.Tensor], torch.Tensor | None]) -> Iterator[None]:
    """While torch traces, let it write out composite operators that have no rule.

    Args:
        known: the tensor that one holds at every call; torch asks for a number of it where its
            own code needs one, as in ``F.pad(x, (0, tensor))``.
    """
    from torch.fx.experimental import proxy_tensor

    original = proxy_tensor.maybe_handle_decomp

    def handle(mode: Any, func: Any, args: Any, kwargs: Any) -> Any:
        if func in _NUMBERS and (value := known(args[0])) is not None:
            with _disable_current_modes():
                return value.item()
        out = original(mode, func, args, kwargs)
        if out is not NotImplemented or not _is_unknown(func):
            return out
        with mode:
            return func.decompose(*args, **kwargs)

    with mock.patch(_PROXY, handle):
        yield


def _is_unknown(func: Any) -> bool:
    """Whether an operator is torch's composition of others, and has no rule of ours."""
    if not isinstance(func, torch._ops.OpOverload) or func.namespace != "aten":
        return False
    if rule_of(str(func).removeprefix("aten.")) is not None:
        return False
    for name in (plain_name(func), plain_name(func).removesuffix("_")):
        if name in _KEPT or name in ALIASES or rule_of(f"{name}.default") is not None:
            return False
    if overrides.active().operator(str(func)) is not None:
        return False
    key = "CompositeImplicitAutograd"
    return bool(torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), key))
