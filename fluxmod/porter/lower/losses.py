"""Losses and distances, which ``fluxmod.nn.functional`` has under torch's names."""

from __future__ import annotations

from typing import Any

import torch

from fluxmod.porter.ir import Op, Value

from ._table import Scope, call, lower

_REDUCTIONS = ("none", "mean", "sum")
_IN_PYTHON = {"cross_entropy_loss": "cross_entropy", "nll_loss_nd": "nll_loss"}
_OVER_CLASSES = ("cross_entropy", "nll_loss")


@lower(
    "binary_cross_entropy", "binary_cross_entropy_with_logits", "cosine_embedding_loss",
    "cross_entropy_loss", "ctc_loss", "hinge_embedding_loss", "huber_loss",
    "kl_div", "l1_loss", "margin_ranking_loss", "mse_loss", "multi_margin_loss",
    "multilabel_margin_loss", "nll_loss", "nll_loss_nd", "pairwise_distance", "poisson_nll_loss",
    "smooth_l1_loss", "soft_margin_loss", "triplet_margin_loss",
)  # fmt: skip
def _loss(s: Scope, op: Op) -> str:
    """The function of that name; what follows the arrays is given by name, as ATen calls it."""
    name = _IN_PYTHON.get(op.name, op.name)
    arrays: list[str] = []
    named: dict[str, Any] = {}
    for argument, value in _bound(op):
        if not argument.has_default_value() and isinstance(value, Value):
            arrays.append(s(value))
        elif argument.name == "reduction":
            named["reduction"] = None if value == 1 else repr(_REDUCTIONS[value])
        elif isinstance(value, (list, tuple)):
            named[argument.name] = repr(tuple(value))
        elif value is not None and (isinstance(value, Value) or value != argument.default_value):
            named[argument.name] = s(value)
    if name in _OVER_CLASSES and op.args[0].rank > 2:
        named["channels_last"] = "False"
    return call(f"F.{name}", *arrays, **named)


def _bound(op: Op) -> list[tuple[Any, Any]]:
    """The arguments of an operator with what its schema says of them."""
    packet = getattr(torch.ops.aten, op.name)
    overload = op.target.rpartition(".")[2]
    schema = getattr(packet, overload if overload in packet.overloads() else "default")._schema
    given = dict(zip((a.name for a in schema.arguments), op.args, strict=False)) | op.kwargs
    return [(a, given[a.name]) for a in schema.arguments if a.name in given]
