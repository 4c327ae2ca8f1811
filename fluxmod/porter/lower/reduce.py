"""Reductions, softmax, sorting."""

from __future__ import annotations

import math
from typing import Any

import torch

from fluxmod.porter.ir import Op, Value

from ._table import DTYPES, Scope, call, given, has_no_axes, lower


def _axis(dims: Any) -> str | None:
    if dims is None or dims == []:
        return None
    if isinstance(dims, (list, tuple)):
        return str(dims[0]) if len(dims) == 1 else str(tuple(dims))
    return str(dims)


def _method(name: str, place: int = 1) -> Any:
    def rule(s: Scope, op: Op) -> str:
        keep = given(op, place + 1, "keepdim", False)
        dtype = op.kwargs.get("dtype")
        text = s(op.args[0])
        verb = name
        if name in ("sum", "prod") and op.args[0].dtype == torch.bool:
            dtype = torch.int32
            if op.out.dtype == torch.bool:
                verb, dtype = {"sum": "any", "prod": "all"}[name], None
        return call(
            f"{text}.{verb}",
            axis=None if has_no_axes(op) else _axis(given(op, place, "dim")),
            dtype=None if dtype is None else DTYPES[dtype].replace("int64", "int32"),
            keepdims="True" if keep else None,
        )

    return rule


_METHODS = {
    "mean": "mean",
    "sum": "sum",
    "amax": "max",
    "amin": "min",
    "any": "any",
    "all": "all",
    "argmax": "argmax",
    "argmin": "argmin",
    "prod": "prod",
    "max.default": "max",
    "min.default": "min",
}
for _name, _target in _METHODS.items():
    lower(_name)(_method(_target))


def _alone(number: str) -> str:
    """A number and its place, which is the first."""
    return f"({number}, jnp.zeros((), int))"


def _extreme(name: str) -> Any:
    def rule(s: Scope, op: Op) -> str:
        dim = str(op.args[1] if len(op.args) > 1 else op.kwargs["dim"])
        if has_no_axes(op):
            return _alone(s(op.args[0]))
        keep = "True" if given(op, 2, "keepdim", False) else None
        return call(f"ops.{name}", s(op.args[0]), dim, keepdim=keep)

    return rule


lower("max.dim")(_extreme("max"))
lower("min.dim")(_extreme("min"))


@lower("var", "std")
def _spread(s: Scope, op: Op) -> str:
    name = op.name
    dims = op.args[1] if len(op.args) > 1 else op.kwargs.get("dim")
    correction: Any = op.kwargs.get("correction", 1)
    if isinstance(dims, bool):
        correction, dims = int(dims), None
    elif len(op.args) > 2 and isinstance(op.args[2], bool):
        correction = int(op.args[2])
    if "unbiased" in op.kwargs:
        correction = int(op.kwargs["unbiased"])
    ddof = int(correction) if correction == int(correction) else correction
    keep = given(op, 3, "keepdim", False)
    return call(
        f"{s(op.args[0])}.{name}",
        axis=_axis(dims),
        ddof=repr(ddof) if ddof else None,
        keepdims="True" if keep else None,
    )


@lower("logsumexp")
def _logsumexp(s: Scope, op: Op) -> str:
    keep = "True" if given(op, 2, "keepdim", False) else None
    axis = None if has_no_axes(op) else _axis(given(op, 1, "dim"))
    return call("jax.scipy.special.logsumexp", s(op.args[0]), axis=axis, keepdims=keep)


def _order(order: Any) -> str:
    """The order of a norm; an infinite one has a name."""
    if isinstance(order, float) and math.isinf(order):
        return "jnp.inf" if order > 0 else "-jnp.inf"
    return repr(order)


def _is_matrix(op: Op) -> bool:
    """Whether torch takes the norm of matrices: an order with two axes, or with none of two."""
    axes, order = given(op, 2, "dim"), given(op, 1, "ord")
    both = len(axes) == 2 if isinstance(axes, (list, tuple)) else axes is None
    return order is not None and both and op.args[0].rank > 1


@lower("linalg_vector_norm", "linalg_norm", "norm")
def _norm(s: Scope, op: Op) -> str:
    if op.name == "linalg_norm" and (isinstance(given(op, 1, "ord"), str) or _is_matrix(op)):
        raise NotImplementedError("a norm of matrices")
    order = given(op, 1, "p" if op.name == "norm" else "ord", 2)
    keep = "True" if given(op, 3, "keepdim", False) else None
    text, dtype = s(op.args[0]), given(op, 4, "dtype")
    if isinstance(dtype, torch.dtype):
        text = f"{text}.astype({DTYPES[dtype]})"
    return call(
        "ops.norm", text, ord=None if order in (2, None) else _order(order),
        dim=_axis(given(op, 2, "dim")), keepdim=keep,
    )  # fmt: skip


def _softmax(name: str) -> Any:
    def rule(s: Scope, op: Op) -> str:
        dtype = given(op, 2, "dtype")
        dtype = None if not isinstance(dtype, torch.dtype) else DTYPES[dtype]
        return call(f"F.{name}", s(op.args[0]), dim=str(given(op, 1, "dim")), dtype=dtype)

    return rule


lower("softmax", "_softmax")(_softmax("softmax"))
lower("log_softmax", "_log_softmax")(_softmax("log_softmax"))


def _asked(op: Op) -> str | None:
    """The dtype that an operator was asked to compute in, None where it was not."""
    dtype = op.kwargs.get("dtype")
    if dtype is None or dtype == op.args[0].dtype:
        return None
    return "int" if dtype == torch.int64 else DTYPES[dtype]


@lower("cumsum", "cumprod")
def _cumulative(s: Scope, op: Op) -> str:
    if has_no_axes(op):
        return s(op.args[0])
    return call(f"jnp.{op.name}", s(op.args[0]), axis=str(given(op, 1, "dim")), dtype=_asked(op))


@lower("topk")
def _topk(s: Scope, op: Op) -> str:
    value, k, dim = op.args[0], op.args[1], given(op, 2, "dim", -1)
    text = s(value)
    if has_no_axes(op):
        return _alone(text)
    axis = None if dim % value.rank == value.rank - 1 else str(dim)
    if given(op, 3, "largest", True):
        return call("jax.lax.top_k", text, s(k), axis=axis)
    places = call("jnp.argsort", text, axis=axis)
    first = ", ".join([*[":"] * (dim % value.rank), f":{s(k)}"])
    index = f"{places}[{first}]"
    return f"({call('jnp.take_along_axis', text, index, axis=str(dim))}, {index})"


@lower("sort")
def _sort(s: Scope, op: Op) -> str:
    dim = given(op, 1, "dim", -1)
    descending = "True" if given(op, 2, "descending", False) else None
    text = s(op.args[0])
    if has_no_axes(op):
        return _alone(text) if isinstance(op.out, list) else text
    values = call("jnp.sort", text, axis=str(dim), descending=descending)
    if not isinstance(op.out, list):
        return values
    return f"({values}, {call('jnp.argsort', text, axis=str(dim), descending=descending)})"


@lower("bucketize", "searchsorted")
def _search(s: Scope, op: Op) -> str:
    values, bounds = op.args[:2] if op.name == "bucketize" else op.args[1::-1]
    if bounds.rank != 1 or op.kwargs.get("sorter") is not None:
        raise NotImplementedError("a search in several rows, or in one that is not sorted")
    right = op.kwargs.get("right", False) or op.kwargs.get("side") == "right"
    text = s(values) if isinstance(values, Value) else repr(values)
    found = call("jnp.searchsorted", s(bounds), text, side="'right'" if right else None)
    return f"{found}.astype({'int' if op.out.dtype == torch.int64 else DTYPES[op.out.dtype]})"


@lower("argsort")
def _argsort(s: Scope, op: Op) -> str:
    descending = "True" if given(op, 2, "descending", False) else None
    if has_no_axes(op):
        return f"jnp.zeros_like({s(op.args[0])}, int)"
    return call(
        "jnp.argsort", s(op.args[0]), axis=str(given(op, 1, "dim", -1)), descending=descending
    )


@lower("diff")
def _diff(s: Scope, op: Op) -> str:
    n, dim = given(op, 1, "n", 1), given(op, 2, "dim", -1)
    ends = {k: given(op, i, k) for i, k in ((3, "prepend"), (4, "append"))}
    return call(
        "jnp.diff", s(op.args[0]), n=None if n == 1 else repr(n),
        axis=None if dim in (-1, op.args[0].rank - 1) else repr(dim),
        **{k: None if v is None else s(v) for k, v in ends.items()},
    )  # fmt: skip


@lower("histc")
def _histc(s: Scope, op: Op) -> str:
    """Counts of whole numbers; other bins are not torch's to the last place."""
    bins, low, high = given(op, 1, "bins", 100), given(op, 2, "min", 0), given(op, 3, "max", 0)
    if bins == 1 and low == high:  # equal bounds mean those of the data
        return call("jnp.full", "1", f"{s(op.args[0])}.size", DTYPES[op.out.dtype])
    if low != 0 or high != bins - 1 or bins < 2:
        raise NotImplementedError("histc with bins that are not the numbers 0 to n - 1")
    counts = call("jnp.bincount", f"{s(op.args[0])}.astype(int).ravel()", length=s(bins))
    return f"{counts}.astype({DTYPES[op.out.dtype]})"
