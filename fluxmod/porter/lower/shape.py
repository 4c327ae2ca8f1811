"""Shapes: reshapes, permutations, joins, splits, subscripts."""

from __future__ import annotations

from typing import Any

import torch

from fluxmod.porter.ir import Op, Size, Value

from ._table import Scope, call, given, has_no_axes, lower, tuple_text, value_of


@lower("view", "reshape", "_unsafe_view")
def _reshape(s: Scope, op: Op) -> str:
    return f"{s(op.args[0])}.reshape({', '.join(s.sizes(op)) or '()'})"


@lower("view_as", "reshape_as")
def _view_as(s: Scope, op: Op) -> str:
    return f"{s(op.args[0])}.reshape({s(op.args[1])}.shape)"


@lower("flatten")
def _flatten(s: Scope, op: Op) -> str:
    value = op.args[0]
    if has_no_axes(op):
        return f"{s(value)}.reshape(1)"
    start = given(op, 1, "start_dim", 0) % max(value.rank, 1)
    end = given(op, 2, "end_dim", -1) % max(value.rank, 1)
    if start == end:
        return s(value)
    before = _extents(s, value, 0, start)
    after = _extents(s, value, end + 1, value.rank)
    return f"{s(value)}.reshape({', '.join([*before, '-1', *after])})"


def _extents(s: Scope, value: Value, start: int, end: int) -> list[str]:
    """The sizes of a range of axes, read from the array where that is shorter."""
    return [s(Size(value.shape[i], ("dim", value, i))) for i in range(start, end)]


@lower("unflatten")
def _unflatten(s: Scope, op: Op) -> str:
    value, dim = op.args[0], op.args[1] % op.args[0].rank
    before = _extents(s, value, 0, dim)
    after = _extents(s, value, dim + 1, value.rank)
    return f"{s(value)}.reshape({', '.join([*before, *s.sizes(op, 2), *after])})"


@lower("fluxmod.flatten")
def _flatten_map(s: Scope, op: Op) -> str:
    value = op.args[0]
    if value.rank in (4, 5):
        return call("F.flatten", s(value))
    return call("F.flatten", s(value), channels_last="True")


@lower("permute")
def _permute(s: Scope, op: Op) -> str:
    return f"{s(op.args[0])}.transpose({', '.join(str(d) for d in op.args[1])})"


@lower("swapaxes", "transpose", "swapdims")
def _swapaxes(s: Scope, op: Op) -> str:
    if has_no_axes(op):
        return s(op.args[0])
    return f"{s(op.args[0])}.swapaxes({op.args[1]}, {op.args[2]})"


@lower("t", "numpy_T")
def _transposed(s: Scope, op: Op) -> str:
    return f"{s(op.args[0])}.T"


@lower("mH", "matrix_H", "adjoint")
def _adjoint(s: Scope, op: Op) -> str:
    return f"{s(op.args[0])}.conj().swapaxes(-2, -1)"


@lower("unsqueeze")
def _unsqueeze(s: Scope, op: Op) -> str:
    value, dim = op.args
    if dim == -1:
        return f"{s(value)}[..., None]"
    if 0 <= dim <= 3:
        return f"{s(value)}[{', '.join([*[':'] * dim, 'None'])}]"
    return call("jnp.expand_dims", s(value), str(dim))


@lower("squeeze")
def _squeeze(s: Scope, op: Op) -> str:
    dims = given(op, 1, "dim")
    if dims is None:
        return f"{s(op.args[0])}.squeeze()"
    value = op.args[0]
    asked = [dims] if isinstance(dims, int) else list(dims)
    ones = [d for d in asked if value.rank and value_of(_extent(value, d)) == 1]
    if not ones:
        return s(value)
    return f"{s(value)}.squeeze({ones[0] if len(ones) == 1 else tuple(ones)})"


def _extent(value: Value, dim: int) -> Any:
    """The size of an axis, counted as the array stands."""
    return value.shape[value.layout[dim % value.rank]]


@lower("cat", "concat", "concatenate")
def _cat(s: Scope, op: Op) -> str:
    parts = [v for v in op.args[0] if v.shape != (0,)] or op.args[0][:1]
    dim = given(op, 1, "dim", 0)
    return call("jnp.concatenate", s(list(parts)), axis=dim or None)


@lower("stack")
def _stack(s: Scope, op: Op) -> str:
    dim = given(op, 1, "dim", 0)
    return call("jnp.stack", s(list(op.args[0])), axis=dim or None)


@lower("unbind")
def _unbind(s: Scope, op: Op) -> str:
    dim = given(op, 1, "dim", 0)
    return call("jnp.unstack", s(op.args[0]), axis=dim or None)


@lower("chunk", "split", "split_with_sizes", "tensor_split")
def _split(s: Scope, op: Op) -> str:
    value, dim = op.args[0], given(op, 2, "dim", 0)
    if isinstance(op.args[1], Value):
        raise NotImplementedError("tensor_split at places that an array tells")
    extents = [o.shape[_torch_axis(value, dim)] for o in op.out]
    if len(set(extents)) == 1:
        return call("jnp.split", s(value), str(len(extents)), axis=dim or None)
    return _at_bounds(s, op, extents, dim)


def _torch_axis(value: Value, dim: int) -> int:
    return value.layout[dim % value.rank]


def _at_bounds(s: Scope, op: Op, extents: list[int], dim: int) -> str:
    """A split into parts of several sizes; where torch's source has expressions, their sums."""
    named = s.listed_sizes(op, 1, len(extents) - 1)  # type: ignore[attr-defined]
    bounds, total = [], 0
    for index, extent in enumerate(extents[:-1]):
        total += extent
        bounds.append(s(total) if named is None else " + ".join(named[: index + 1]))
    return call("jnp.split", s(op.args[0]), f"[{', '.join(bounds)}]", axis=dim or None)


@lower("expand", "expand_as", "broadcast_to")
def _expand(s: Scope, op: Op) -> str:
    value = op.args[0]
    if op.name == "expand_as":
        return call("jnp.broadcast_to", s(value), f"{s(op.args[1])}.shape")
    sizes = s.sizes(op)
    rank = len(sizes)
    if not rank:
        return s(value)
    if sizes[0] != "-1" and rank == value.rank and set(sizes[1:]) == {"-1"}:
        text = s(value)
        return call(
            "jnp.broadcast_to", text, f"({sizes[0]}, *{text.removesuffix('[...]')}.shape[1:])"
        )
    shape = [value.shape[a] for a in value.layout]
    for i, size in enumerate(sizes):
        if size == "-1":
            axis = value.layout[i - (rank - value.rank)]
            sizes[i] = s(Size(shape[i - (rank - value.rank)], ("dim", value, axis)))
    return call("jnp.broadcast_to", s(value), tuple_text(sizes))


@lower("repeat", "tile")
def _repeat(s: Scope, op: Op) -> str:
    return call("jnp.tile", s(op.args[0]), tuple_text(s.sizes(op)))


@lower("repeat_interleave")
def _repeat_interleave(s: Scope, op: Op) -> str:
    dim = given(op, 2, "dim")
    return call("jnp.repeat", s(op.args[0]), s(op.args[1]), axis=None if dim is None else str(dim))


@lower("flip")
def _flip(s: Scope, op: Op) -> str:
    dims = op.args[1] if len(op.args) > 1 else op.kwargs["dim"]
    return call("jnp.flip", s(op.args[0]), axis=str(dims[0] if len(dims) == 1 else tuple(dims)))


@lower("roll")
def _roll(s: Scope, op: Op) -> str:
    shifts, dims = op.args[1], given(op, 2, "dim", given(op, 2, "dims"))
    moves = s.sizes(op, 1)
    if not dims:
        return call("jnp.roll", s(op.args[0]), moves[0])
    if len(shifts) == 1:
        return call("jnp.roll", s(op.args[0]), moves[0], axis=str(dims[0]))
    return call("jnp.roll", s(op.args[0]), f"({', '.join(moves)})", axis=str(tuple(dims)))


@lower("narrow")
def _narrow(s: Scope, op: Op) -> str:
    value, dim, start, length = op.args
    dim %= value.rank
    stop = value_of(start) + value_of(length)
    return f"{s(value)}[{', '.join([*[':'] * dim, f'{s(start)}:{stop}'])}]"


@lower("fluxmod.getitem")
def _getitem(s: Scope, op: Op) -> str:
    value, entries = op.args
    return f"{s(value)}[{subscript(s, entries, value.rank)}]"


def subscript(s: Scope, entries: list[Any], rank: int) -> str:
    """The text between the brackets, of an array's ``rank``; trailing whole axes are left out."""
    masks = [e for e in entries if isinstance(e, Value) and e.dtype == torch.bool]
    reached = sum(e is not None for e in entries) + sum(m.rank - 1 for m in masks)
    entries = [*entries, *[slice(None)] * (rank - reached)]
    shown = [e for e in entries if not isinstance(e, slice) or e != slice(None)]
    full = [i for i, e in enumerate(entries) if isinstance(e, slice) and e == slice(None)]
    tail = 0
    while entries and isinstance(entries[-1], slice) and entries[-1] == slice(None):
        entries.pop()
        tail += 1
    parts = [_entry(s, e) for e in entries]
    leading = 0
    while leading < len(parts) and parts[leading] == ":":
        leading += 1
    if leading > 1 and not tail and len(shown) == len(parts) - leading and len(full) == leading:
        parts = ["...", *parts[leading:]]
    return ", ".join(parts) or ":"


def _entry(s: Scope, entry: Any) -> str:
    if entry is None:
        return "None"
    if isinstance(entry, slice):
        low, high = ("" if b is None else s(b) for b in (entry.start, entry.stop))
        step = "" if entry.step is None else f":{s(entry.step)}"
        return f"{low}:{high}{step}"
    return s(entry)


@lower("slice", "select", "index")
def _slice(s: Scope, op: Op) -> str:
    raise AssertionError("slices become subscripts before lowering")


@lower("meshgrid")
def _meshgrid(s: Scope, op: Op) -> str:
    indexing = op.kwargs.get("indexing", "ij")
    parts = [s(v) if v.rank else f"{s(v)}[None]" for v in op.args[0]]
    return call("jnp.meshgrid", *parts, indexing=repr(indexing))


@lower("diagonal")
def _diagonal(s: Scope, op: Op) -> str:
    offset, a, b = given(op, 1, "offset", 0), given(op, 2, "dim1", 0), given(op, 3, "dim2", 1)
    return call("jnp.diagonal", s(op.args[0]), str(offset), str(a), str(b))


@lower("unfold")
def _unfold(s: Scope, op: Op) -> str:
    return call("ops.unfold", s(op.args[0]), *(s.number(op, index) for index in (1, 2, 3)))


@lower("fluxmod.windows")
def _windows(s: Scope, op: Op) -> str:
    value, axis, merged, size, step = op.args
    text = s(value)
    if merged > 1:
        lead = "".join(f"{text}.shape[{i}], " for i in range(axis))
        rest = "".join(f", {text}.shape[{i}]" for i in range(axis + merged, value.rank))
        text = f"{text}.reshape({lead}-1{rest})"
    return call("ops.windows", text, str(axis), str(size), str(step))


@lower("broadcast_tensors")
def _broadcast_tensors(s: Scope, op: Op) -> str:
    return call("jnp.broadcast_arrays", *(s(value) for value in op.args[0]))
