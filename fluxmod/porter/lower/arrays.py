"""Arrays put together, turned and looked through: functions that NumPy has under its own names."""

from __future__ import annotations

import torch

from fluxmod.porter.ir import Op, Value

from ._table import Scope, call, given, has_no_axes, lower, tuple_text
from .reduce import _axis, _spread


@lower("vstack", "hstack", "dstack", "column_stack")
def _stack(s: Scope, op: Op) -> str:
    return f"jnp.{op.name}([{', '.join(s(v) for v in op.args[0])}])"


@lower("block_diag")
def _block_diag(s: Scope, op: Op) -> str:
    return call("jax.scipy.linalg.block_diag", *(s(v) for v in op.args[0]))


@lower("ravel")
def _ravel(s: Scope, op: Op) -> str:
    return f"{s(op.args[0])}.ravel()"


@lower("movedim")
def _movedim(s: Scope, op: Op) -> str:
    source, target = (d if isinstance(d, int) else tuple(d) for d in op.args[1:3])
    return call("jnp.moveaxis", s(op.args[0]), repr(source), repr(target))


@lower("rot90")
def _rot90(s: Scope, op: Op) -> str:
    turns, axes = given(op, 1, "k", 1), tuple(given(op, 2, "dims", (0, 1)))
    return call(
        "jnp.rot90", s(op.args[0]), k=None if turns == 1 else repr(turns),
        axes=None if axes == (0, 1) else repr(axes),
    )  # fmt: skip


@lower("diag")
def _diag(s: Scope, op: Op) -> str:
    offset = given(op, 1, "diagonal", 0)
    return call("jnp.diag", s(op.args[0]), repr(offset) if offset else "")


@lower("tril_indices", "triu_indices")
def _triangle(s: Scope, op: Op) -> str:
    rows, columns, offset = op.args[0], op.args[1], given(op, 2, "offset", 0)
    where = call(
        f"jnp.{op.name}", repr(rows), k=repr(offset) if offset else None,
        m=None if rows == columns else repr(columns),
    )  # fmt: skip
    return f"jnp.stack({where})"


_WINDOWS = {
    "hann_window": "jnp.hanning", "hamming_window": "jnp.hamming",
    "blackman_window": "jnp.blackman", "bartlett_window": "jnp.bartlett",
}  # fmt: skip


@lower(*_WINDOWS)
def _window(s: Scope, op: Op) -> str:
    """NumPy's windows are symmetric; a periodic one is a longer one without its end."""
    size, periodic = op.args[0], given(op, 1, "periodic", True)
    if len(op.args) > 2 or not isinstance(size, int) or size < 2:
        raise NotImplementedError(f"{op.name} with other settings than its length")
    if op.out.dtype != torch.get_default_dtype():
        raise NotImplementedError(f"{op.name} in another dtype")
    function = _WINDOWS[op.name]
    return f"{function}({size + 1})[:-1]" if periodic else f"{function}({size})"


@lower("logspace")
def _logspace(s: Scope, op: Op) -> str:
    base = given(op, 3, "base", 10.0)
    if op.out.dtype != torch.get_default_dtype() or any(isinstance(a, Value) for a in op.args):
        raise NotImplementedError("logspace in another dtype, or between arrays")
    return call("jnp.logspace", *(s.number(op, i) for i in range(3)), base=repr(base))


# --- numbers of an array --------------------------------------------------------------------------


@lower("nanmean")
def _nanmean(s: Scope, op: Op) -> str:
    keep = "True" if given(op, 2, "keepdim", False) and op.args[0].rank else None
    return call("jnp.nanmean", s(op.args[0]), axis=_axes(op, 1), keepdims=keep)


def _axes(op: Op, place: int) -> str | None:
    return None if has_no_axes(op) else _axis(given(op, place, "dim"))


@lower("quantile", "nanquantile")
def _quantile(s: Scope, op: Op) -> str:
    at = op.args[1] if len(op.args) > 1 else op.kwargs["q"]
    method = op.kwargs.get("interpolation", "linear")
    return call(
        f"jnp.{op.name}", s(op.args[0]), s(at) if isinstance(at, Value) else repr(at),
        axis=_axes(op, 2), method=None if method == "linear" else repr(method),
        keepdims="True" if given(op, 3, "keepdim", False) and op.args[0].rank else None,
    )  # fmt: skip


def _of_sorted(s: Scope, op: Op, place: str, dim: int, *, keep: bool) -> str:
    """One entry of the sorted rows, and where it stood."""
    value = op.args[0]
    entry = f"[{place}]" if keep else place
    found = [
        f"jnp.take(jnp.{function}({s(value)}, axis={dim}), {_array(entry)}, axis={dim})"
        for function in ("sort", "argsort")
    ]
    return tuple_text(found)


def _array(entry: str) -> str:
    return f"jnp.array({entry})" if entry.startswith("[") else entry


@lower("median.dim", "nanmedian.dim")
def _median_along(s: Scope, op: Op) -> str:
    """The lower one of the two in the middle."""
    value, dim = op.args[0], given(op, 1, "dim")
    if value.dtype.is_floating_point or not value.rank or op.name == "nanmedian":
        raise NotImplementedError("a median along an axis: NaNs are sorted otherwise; use sort")
    middle = f"({s(value)}.shape[{dim}] - 1) // 2"
    return _of_sorted(s, op, middle, dim, keep=given(op, 2, "keepdim", False))


@lower("median.default")
def _median(s: Scope, op: Op) -> str:
    """The lower one of the two in the middle."""
    text = s(op.args[0])
    if not op.args[0].dtype.is_floating_point:
        return f"jnp.sort({text}.ravel())[({text}.size - 1) // 2]"
    return f"jnp.quantile({text}, 0.5, method='lower')"


@lower("kthvalue")
def _kthvalue(s: Scope, op: Op) -> str:
    k, dim = op.args[1], given(op, 2, "dim", -1)
    if not op.args[0].rank:
        raise NotImplementedError("kthvalue of a single number")
    return _of_sorted(s, op, repr(k - 1), dim, keep=given(op, 3, "keepdim", False))


@lower("aminmax")
def _aminmax(s: Scope, op: Op) -> str:
    dim, keep = op.kwargs.get("dim"), "True" if op.kwargs.get("keepdim") else None
    text = s(op.args[0])
    if dim is not None and not op.args[0].rank:
        dim, keep = None, None
    return tuple_text([call(f"{text}.{f}", axis=_axis(dim), keepdims=keep) for f in ("min", "max")])


@lower("var_mean", "std_mean")
def _moments(s: Scope, op: Op) -> str:
    spread = Op(f"{op.name[:3]}.correction", op.args, op.kwargs, op.out[0])
    mean = call(
        f"{s(op.args[0])}.mean", axis=_axis(given(op, 1, "dim")),
        keepdims="True" if given(op, 3, "keepdim", False) else None,
    )  # fmt: skip
    return tuple_text([_spread(s, spread), mean])


@lower("cummax", "cummin")
def _running(s: Scope, op: Op) -> str:
    """The extreme so far, and the last place where it stood."""
    value, dim = op.args[0], given(op, 1, "dim")
    if not value.rank or value.dtype == torch.bool:
        raise NotImplementedError(f"{op.name} of a single number, or of bools")
    text, axis = s(value), str(dim % value.rank)
    extreme = call(f"jax.lax.{op.name}", text, axis=axis)
    places = call("jax.lax.broadcasted_iota", "int", f"{text}.shape", axis)
    last = call("jax.lax.cummax", f"jnp.where({text} == {extreme}, {places}, 0)", axis=axis)
    return tuple_text([extreme, last])


@lower("logcumsumexp")
def _logcumsumexp(s: Scope, op: Op) -> str:
    value, dim = op.args[0], given(op, 1, "dim")
    if not value.rank:
        return s(value)
    return call("jax.lax.cumlogsumexp", s(value), axis=str(dim % value.rank))
