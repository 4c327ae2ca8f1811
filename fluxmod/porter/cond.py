"""``torch.cond``: what both branches compute, and a choice between their results."""

from __future__ import annotations

from typing import Any

import torch

from .ir import Op, Param, Value
from .recording import OpRecord
from .traced import current_like, is_random, refusal

__all__ = ["cond"]


def cond(builder: Any, record: OpRecord) -> None:
    """Add the operators of both branches, and the choice.

    The writer nests what only one branch needs inside of it, so that only then it is computed.

    Raises:
        UnsupportedOpError: another higher-order operator; random numbers in a branch.
    """
    if str(record.node.target) != "cond":
        raise refusal(builder, record, f"no lowering for {record.node.target}")
    test, *branches, operands = record.args
    graphs = builder.trace.branches
    results = [_branch(builder, graphs[branch], operands, record) for branch in branches]
    outs = [current_like(value) for value in results[0]]
    arguments = (builder.read(test), *results)
    op = Op("fluxmod.cond", arguments, {}, outs, record.where, flow=builder.flow)
    if len(outs) == 1:
        op.out = outs[0]
    for value in outs:
        value.producer = op
    builder.env[record.node] = outs
    builder.current.items.append(op)


def _branch(builder: Any, graph: torch.fx.Graph, operands: Any, record: OpRecord) -> Any:
    """Do what one branch does; its results."""
    given = iter(operands)
    for node in graph.nodes:
        if node.op == "placeholder":
            builder.env[node] = builder.read(next(given))
        elif node.op == "get_attr":
            held: Any = getattr(graph.owning_module, str(node.target))
            if isinstance(held, torch.fx.GraphModule):
                builder.trace.branches[node] = held.graph
            else:
                constant = Param((), held, "constant")
                builder.env[node] = Value(tuple(held.shape), held.dtype, producer=constant)
        elif node.op == "output":
            return builder.tree(tuple(node.args[0]))
        elif is_random(node):
            what = f"{node.target} draws random numbers in a branch of torch.cond; draw them before"
            raise refusal(builder, record, what)
        else:
            builder.op(OpRecord(node, node.args, dict(node.kwargs), where=record.where))
    return ()
