"""Reading and writing by index."""

from __future__ import annotations

import math
from typing import Any

import torch

from fluxmod.porter.ir import Op, Value

from ._table import Scope, call, given, lower, value_of
from .shape import subscript


@lower("gather")
def _gather(s: Scope, op: Op) -> str:
    value, dim, index = op.args[:3]
    if not value.rank:
        return call("jnp.broadcast_to", s(value), f"{s(index)}.shape")
    if index.rank != value.rank:
        raise NotImplementedError("gather with an empty index of another rank")
    text, axis = s(value), dim % value.rank
    cut = [i for i in range(value.rank) if i != axis and value.shape[i] != index.shape[i]]
    if cut:
        parts = [f":{index.shape[i]}" if i in cut else ":" for i in range(max(cut) + 1)]
        text = f"{text}[{', '.join(parts)}]"
    return call("jnp.take_along_axis", text, s(index), axis=str(dim))


@lower("index_select")
def _index_select(s: Scope, op: Op) -> str:
    value, dim, index = op.args
    if not value.rank:
        return s(value)
    dim %= value.rank
    return f"{s(value)}[{', '.join([*[':'] * dim, s(index)])}]"


@lower("take")
def _take(s: Scope, op: Op) -> str:
    return f"{s(op.args[0])}.ravel()[{s(op.args[1])}]"


@lower("take_along_dim")
def _take_along(s: Scope, op: Op) -> str:
    values, index, dim = s(op.args[0]), s(op.args[1]), given(op, 2, "dim")
    if dim is None:
        return f"{values}.ravel()[{index}.ravel()]"
    return call("jnp.take_along_axis", values, index, axis=str(dim))


@lower("index_put")
def _index_put(s: Scope, op: Op) -> str:
    value, entries, new = op.args[:3]
    masks = [e for e in entries if isinstance(e, Value) and e.dtype == torch.bool]
    adds = given(op, 3, "accumulate", False)
    alone = len(masks) == 1 and sum(e is not None for e in entries) == 1
    lead = next(i for i, e in enumerate(entries) if e is not None)
    behind = value.rank - lead - masks[0].rank if alone else 0
    many = isinstance(new, Value) and new.rank > behind
    if masks and many and (not alone or lead):
        raise NotImplementedError("as many new values as a mask has True entries")
    if alone:  # compiled code needs a choice
        axes = f"[...{', None' * behind}]" if behind else ""
        old, chosen = s(value), s(new)
        if many and (new.shape[0] != 1 or new.symbols[0]):
            base = f"jnp.zeros_like({old})" if adds else old
            rows = _full_rows(s, value, masks[0], new)
            text = call("ops.masked_scatter", base, f"{s(masks[0])}{axes}", rows)
            return f"{old} + {text}" if adds else text
        chosen = f"{chosen}.squeeze(0)" if many else chosen  # one row for every place
        return f"jnp.where({s(masks[0])}{axes}, {f'{old} + {chosen}' if adds else chosen}, {old})"
    entries = [slice(None) if e is None else e for e in entries]
    verb = _verb(value, "add" if adds else "set")
    return f"{s(value)}.at[{subscript(s, entries, value.rank)}].{verb}({s(new)})"


def _full_rows(s: Scope, value: Value, mask: Value, new: Value) -> str:
    """New rows, one for each true entry of the mask, with all axes behind it."""
    text, behind = s(new), value.shape[mask.rank :]
    if new.shape[1:] == behind:
        return text
    symbol = new.symbols[0]
    count = f"{text}.shape[0]" if symbol else str(new.shape[0])
    if symbol.startswith("u"):  # as many as the mask could have
        count = f"{s(mask)}.size"
        if new.shape[0] != math.prod(mask.shape):
            raise NotImplementedError("rows of one mask spread over the axes of another")
    return call("jnp.broadcast_to", text, f"({count}, *{s(value)}.shape[{mask.rank}:])")


def _verb(value: Value, verb: str) -> str:
    """The method of ``.at[]``; among bools a sum is the larger one."""
    return "max" if verb == "add" and value.dtype == torch.bool else verb


def _into_number(verb: str, number: str, source: str) -> str:
    """Of an array without axes there is one place."""
    return f"{number} + {source}" if verb == "add" else call("jnp.full_like", number, source)


def _along(s: Scope, op: Op, verb: str) -> str:
    value, dim, index, new = op.args[:4]
    whole = not value.dtype.is_floating_point and not value.dtype.is_complex
    if whole and not isinstance(new, Value):
        new = bool(new) if value.dtype == torch.bool else int(new)
    source = s(new)
    if not value.rank:
        return _into_number(verb, s(value), source)
    if isinstance(new, Value) and new.shape != index.shape:
        cut = ", ".join(f":{n}" for n in index.shape)
        source = f"{source}[{cut}]"
    others = [i for i in range(value.rank) if i != dim % value.rank]
    if verb == "set" and all(value.shape[i] == index.shape[i] for i in others):
        return f"jnp.put_along_axis({s(value)}, {s(index)}, {source}, axis={dim}, inplace=False)"
    return f"{s(value)}.at[{_grid(s, index, dim)}].{_verb(value, verb)}({source})"


def _grid(s: Scope, index: Value, dim: int) -> str:
    dim %= index.rank
    parts = []
    for axis in range(index.rank):
        if axis == dim:
            parts.append(s(index))
        else:
            shape = ", ".join("-1" if a == axis else "1" for a in range(index.rank))
            parts.append(f"jnp.arange({s(index)}.shape[{axis}]).reshape({shape})")
    return ", ".join(parts)


@lower("scatter")
def _scatter(s: Scope, op: Op) -> str:
    if op.kwargs.get("reduce") == "multiply":
        raise NotImplementedError("scatter that multiplies: JAX has no derivative of it")
    return _along(s, op, "add" if op.kwargs.get("reduce") == "add" else "set")


@lower("scatter_add")
def _scatter_add(s: Scope, op: Op) -> str:
    return _along(s, op, "add")


@lower("scatter_reduce")
def _scatter_reduce(s: Scope, op: Op) -> str:
    value, dim, index, new, reduce = op.args[:5]
    if reduce == "prod":
        raise NotImplementedError("scatter_reduce with prod: JAX has no derivative of it")
    if value.dtype == torch.bool:
        raise NotImplementedError("scatter_reduce of bools")
    own = None if given(op, 5, "include_self", True) else "False"
    texts = s(value), str(dim), s(index), s(new), repr(reduce)
    return call("ops.scatter_reduce", *texts, include_self=own)


def _on_axis(verb: str) -> Any:
    def rule(s: Scope, op: Op) -> str:
        value, dim, index, new = op.args[:4]
        source = s(new) if isinstance(new, Value) else s.number(op, 3)
        if (alpha := value_of(op.kwargs.get("alpha", 1))) != 1:
            source = f"{alpha!r} * {source}"
        if not value.rank:
            return _into_number(verb, s(value), f"jnp.reshape({source}, ())")
        if isinstance(new, Value) and new.rank not in (0, value.rank):
            raise NotImplementedError(f"{op.name} of arrays of {value.rank} and {new.rank} axes")
        place = ", ".join([*[":"] * (dim % value.rank), s(index)])
        return f"{s(value)}.at[{place}].{_verb(value, verb)}({source})"

    return rule


lower("index_add")(_on_axis("add"))
lower("index_copy", "index_fill")(_on_axis("set"))


@lower("nonzero")
def _nonzero(s: Scope, op: Op) -> str:
    return call("ops.nonzero", s(op.args[0]))


@lower("fluxmod.places")
def _places(s: Scope, op: Op) -> str:
    """``torch.where(mask)``"""
    return call("ops.nonzero", s(op.args[0]), as_tuple="True")


@lower("fluxmod.rows")
def _rows(s: Scope, op: Op) -> str:
    """``x[mask]``"""
    return call("ops.masked_rows", s(op.args[0]), s(op.args[1]))


@lower("fluxmod.length")
def _length(s: Scope, op: Op) -> str:
    """``n.item()`` that says how many rows there are"""
    if op.args[0].rank:
        return f"{s(op.args[0])}.reshape(())"
    return s(op.args[0])


@lower("fluxmod.split_rows", "fluxmod.join_rows")
def _pieces(s: Scope, op: Op) -> str:
    """``x.split(lengths)`` and ``torch.cat(pieces)``, the lengths known when it runs"""
    return call(f"ops.{op.target.removeprefix('fluxmod.')}", s(op.args[0]), s(op.args[1]))


@lower("fluxmod.linear_rows")
def _linear_rows(s: Scope, op: Op) -> str:
    """``torch.cat([F.linear(x, w) for x, w in zip(rows.split(lengths), weight)])``"""
    rows, weight, lengths = op.args
    counts = s(lengths) if isinstance(lengths, Value) else call("jnp.stack", s(lengths))
    return call("jax.lax.ragged_dot", s(rows), f"{s(weight)}.swapaxes(1, 2)", counts)


@lower("masked_scatter")
def _masked_scatter(s: Scope, op: Op) -> str:
    return call("ops.masked_scatter", *(s(value) for value in op.args))


@lower("fluxmod.store")
def _store(s: Scope, op: Op) -> str:
    raise AssertionError("stores are statements")


@lower("fluxmod.write_back")
def _write_back(s: Scope, op: Op) -> str:
    """Put a changed view back into the array it was taken from."""
    whole, new, view, arguments = op.args
    name = view.partition(".")[0]
    verb = op.kwargs.get("verb", "set")
    if name == "slice":
        dim, start, end, step = (*arguments, None, None, None)[:4]
        end = None if isinstance(end, int) and end > 2**61 else end
        start = None if start == 0 else start
        entry: Any = slice(start, end, None if step in (1, None) else step)
        return _set(s, whole, new, dim % whole.rank, entry, verb)
    if name == "select":
        return _set(s, whole, new, arguments[0] % whole.rank, arguments[1], verb)
    if name == "narrow":
        dim, start, length = arguments
        return _set(s, whole, new, dim % whole.rank, slice(start, start + length), verb)
    if name in ("unsqueeze", "squeeze", "view", "reshape", "flatten", "unflatten", "view_as"):
        return f"{s(new)}.reshape({s(whole)}.shape)"
    if name in ("transpose", "swapaxes", "t"):
        dims = arguments or (0, 1)
        return f"{s(new)}.swapaxes({dims[0]}, {dims[1]})"
    if name == "mT" or (name in ("mH", "matrix_H", "adjoint") and not whole.dtype.is_complex):
        return f"{s(new)}.swapaxes(-2, -1)"
    if name == "permute":
        order = [d % whole.rank for d in arguments[0]]
        back = [order.index(i) for i in range(len(order))]
        return f"{s(new)}.transpose({', '.join(map(str, back))})"
    raise NotImplementedError(f"writing through {name}")


def _set(s: Scope, whole: Value, new: Any, dim: int, entry: Any, verb: str) -> str:
    entries = [slice(None)] * dim + [entry]
    return f"{s(whole)}.at[{subscript(s, entries, whole.rank)}].{verb}({s(new)})"
