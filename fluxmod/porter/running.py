"""``batch_norm`` with the batch's statistics, outside of a layer."""

from __future__ import annotations

from typing import Any

import torch

from .ir import Op, Value
from .recording import OpRecord
from .traced import current_like, refusal

__all__ = ["batch_norm"]


def batch_norm(builder: Any, record: OpRecord) -> None:
    """The operator gives the batch's statistics too; torch moves the running ones by itself."""
    node = record.node
    out = builder.new(node)
    if out.rank < 2:
        raise refusal(builder, record, "batch_norm of an array without an axis of channels")
    statistics = [Value((out.shape[1],), out.dtype) for _ in range(2)]
    op = builder.plain_op(record, [out, *statistics], "batch_norm.training")
    builder.current.items.append(op)
    builder.env[node] = out
    builder.note(node, out)
    momentum = record.args[6]
    for running, batch in zip(record.args[3:5], statistics, strict=True):
        if isinstance(running, torch.fx.Node):
            old = builder.read(running)
            kept = _made(builder, "mul.Tensor", (old, 1 - momentum), old, record)
            added = _made(builder, "mul.Tensor", (batch, momentum), old, record)
            new = _made(builder, "add.Tensor", (kept, added), old, record)
            builder.write(builder.root_of(running), new)


def _made(builder: Any, target: str, args: tuple[Any, ...], like: Value, record: OpRecord) -> Value:
    """The value of an operator that torch runs inside of another."""
    value = current_like(like)
    value.producer = op = Op(target, args, {}, value, record.where)
    builder.current.items.append(op)
    return value
