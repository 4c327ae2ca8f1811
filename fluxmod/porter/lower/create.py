"""New arrays: constants, ranges, masks, and random numbers."""

from __future__ import annotations

import re

import torch

from fluxmod.porter.ir import Op, Value

from ._table import DTYPES, Scope, call, given, lower, tuple_text


def _dtype(s: Scope, op: Op) -> str:
    """The dtype as text, of an array if torch's source says so; nothing where it is the default."""
    dtype = op.out.dtype
    if dtype.is_floating_point and (text := s.dtype_like(op)) is not None:
        return text
    if dtype == torch.int64:
        return "int"
    return "" if dtype == torch.get_default_dtype() and not _names(op) else DTYPES[dtype]


def _names(op: Op) -> bool:
    """Whether torch's source names float32, and does not only take the default."""
    return re.search(r"torch\.float(32)?\b", op.call_text) is not None


def _like(s: Scope, op: Op) -> str:
    """The dtype of ``x.new_zeros(...)`` and its kind: that of ``x``, whatever it computes in."""
    source = op.args[0]
    if "dtype" in op.kwargs or not op.out.dtype.is_floating_point or source.dtype != op.out.dtype:
        return _dtype(s, op)
    text = s(source)
    return f"{text}.dtype" if text.isidentifier() else _dtype(s, op)


def _shape(s: Scope, op: Op, index: int) -> str:
    sizes = s.sizes(op, index)
    return f"({', '.join(sizes)})" if len(sizes) != 1 else sizes[0]


@lower("zeros", "new_zeros", "empty", "new_empty")
def _zeros(s: Scope, op: Op) -> str:
    if op.name.startswith("new_"):
        return call("jnp.zeros", _shape(s, op, 1), _like(s, op))
    return call("jnp.zeros", _shape(s, op, 0), _dtype(s, op))


@lower("ones", "new_ones")
def _ones(s: Scope, op: Op) -> str:
    if op.name.startswith("new_"):
        return call("jnp.ones", _shape(s, op, 1), _like(s, op))
    return call("jnp.ones", _shape(s, op, 0), _dtype(s, op))


@lower("full", "new_full")
def _full(s: Scope, op: Op) -> str:
    index = 1 if op.name.startswith("new_") else 0
    same = isinstance(op.args[index + 1], float) == op.out.dtype.is_floating_point
    dtype = _dtype(s, op) or ("" if same else DTYPES[op.out.dtype])
    if index == 1:
        dtype = _like(s, op) or dtype
    return call("jnp.full", _shape(s, op, index), s.number(op, index + 1), dtype)


@lower("arange")
def _arange(s: Scope, op: Op) -> str:
    first = 1 if len(op.args) == 2 and op.args[0] == 0 else 0
    dtype = op.out.dtype
    floating = any(isinstance(a, float) for a in op.args)
    if not dtype.is_floating_point and any(a % 1 for a in op.args if isinstance(a, float)):
        raise NotImplementedError("arange of integers with bounds that are none")
    whole = {float, bool} if not dtype.is_floating_point else set()
    numbers = [
        repr(int(a)) if type(a) in whole else s.number(op, i) for i, a in enumerate(op.args)
    ][first:]
    plain = dtype == torch.int64 or (floating and dtype == torch.float32 and not _names(op))
    like = s.dtype_like(op) if dtype.is_floating_point else None
    return call("jnp.arange", *numbers, dtype=like or (None if plain else DTYPES[dtype]))


@lower("linspace")
def _linspace(s: Scope, op: Op) -> str:
    if not op.out.dtype.is_floating_point:
        raise NotImplementedError("linspace of integers: torch rounds from both ends")
    numbers = [s(a) if isinstance(a, Value) else s.number(op, i) for i, a in enumerate(op.args[:3])]
    arrays = any(isinstance(a, Value) for a in op.args[:3])
    return call(
        "jnp.linspace", *numbers, dtype=DTYPES[op.out.dtype] if arrays else _dtype(s, op) or None
    )


@lower("eye")
def _eye(s: Scope, op: Op) -> str:
    numbers = [s.number(op, i) for i in range(len(op.args))]
    return call("jnp.eye", *numbers, dtype=_dtype(s, op) or None)


@lower("scalar_tensor")
def _scalar(s: Scope, op: Op) -> str:
    same = isinstance(op.args[0], float) == op.out.dtype.is_floating_point
    return call(
        "jnp.array", s.number(op, 0), _dtype(s, op) or ("" if same else DTYPES[op.out.dtype])
    )


@lower("tril", "triu")
def _triangle(s: Scope, op: Op) -> str:
    offset = given(op, 1, "diagonal", 0)
    return call(f"jnp.{op.name}", s(op.args[0]), "" if offset == 0 else s.number(op, 1))


@lower("one_hot")
def _one_hot(s: Scope, op: Op) -> str:
    return f"jax.nn.one_hot({s(op.args[0])}, {op.out.shape[-1]}, dtype=int)"


@lower("randn", "rand", "randn_like", "rand_like")
def _random(s: Scope, op: Op) -> str:
    function = "normal" if op.name.startswith("randn") else "uniform"
    if op.name.endswith("_like"):
        text = s(op.args[0])
        return call(f"random.{function}", s.rngs(), f"{text}.shape", f"{text}.dtype")
    return call(f"random.{function}", s.rngs(), tuple_text(s.sizes(op, 0)), _dtype(s, op))


@lower("randint")
def _randint(s: Scope, op: Op) -> str:
    dtype = None if op.out.dtype == torch.int64 else DTYPES[op.out.dtype]
    bounds = s.number(op, 0), s.number(op, 1)
    return call("random.randint", s.rngs(), tuple_text(s.sizes(op, 2)), *bounds, dtype=dtype)


@lower("randperm")
def _randperm(s: Scope, op: Op) -> str:
    return call("random.permutation", s.rngs(), s.number(op, 0))


_FILLS = {
    "exponential": {"lambd": ("lambd", 1.0)},
    "normal": {"mean": ("mean", 0.0), "std": ("std", 1.0)},
    "uniform": {"from": ("low", 0.0), "to": ("high", 1.0)},
}


@lower(*_FILLS)
def _fill(s: Scope, op: Op) -> str:
    """Numbers drawn into an array, whose values do not matter."""
    if not isinstance(op.args[0], Value):
        raise NotImplementedError(f"{op.name} of a size")
    text, named = s(op.args[0]), {}
    for index, (theirs, (ours, default)) in enumerate(_FILLS[op.name].items(), 1):
        value = given(op, index, theirs, default)
        if isinstance(value, Value):
            raise NotImplementedError(f"{op.name} with arrays as its settings")
        named[ours] = None if value == default else s(value)
    return call(f"random.{op.name}", s.rngs(), f"{text}.shape", f"{text}.dtype", **named)
