"""Operators that few models use."""

from __future__ import annotations

from typing import Any

from fluxmod.porter.ir import Op

from ._table import Scope, call, lower
from .layers import _plain


def _conv_transpose(spatial: int) -> Any:
    name = f"conv_transpose{spatial}d"
    perm = (*range(2, 2 + spatial), 1, 0)

    def rule(s: Scope, op: Op) -> str:
        keys = ("bias", "stride", "padding", "output_padding", "groups", "dilation")
        arguments = dict(zip(keys, op.args[2:], strict=False)) | op.kwargs
        bias = arguments.pop("bias", None)
        defaults = {"stride": 1, "padding": 0, "output_padding": 0, "groups": 1, "dilation": 1}
        extra = {}
        for key, value in arguments.items():
            values = value if isinstance(value, (list, tuple)) else [value]
            if any(v != defaults[key] for v in values):
                extra[key] = _plain(value)
        kernel = s.permuted(op.args[1], perm)  # type: ignore[attr-defined]
        return call(f"F.{name}", s(op.args[0]), kernel, "" if bias is None else s(bias), **extra)

    return rule


for _n in (1, 2, 3):
    lower(f"conv_transpose{_n}d")(_conv_transpose(_n))


@lower("batch_norm")
def _batch_norm(s: Scope, op: Op) -> str:
    x, weight, bias, mean, var, training, _, eps = op.args[:8]
    if training:
        raise NotImplementedError("batch_norm with the batch's statistics, outside a layer")
    text = call(
        "F.batch_norm", s(x), s(mean), s(var),
        scale=None if weight is None else s(weight), bias=None if bias is None else s(bias),
        eps=None if eps == 1e-5 else repr(eps),
    )  # fmt: skip
    return f"{text}[0]"


@lower("instance_norm")
def _instance_norm(s: Scope, op: Op) -> str:
    x, weight, bias, mean, var, use_input_stats, _, eps = op.args[:8]
    if use_input_stats and mean is not None:
        raise NotImplementedError("instance_norm that updates statistics, outside a layer")
    text = call(
        "F.instance_norm", s(x),
        running_mean=None if mean is None else s(mean), running_var=None if var is None else s(var),
        scale=None if weight is None else s(weight), bias=None if bias is None else s(bias),
        use_input_stats=None if use_input_stats else "False",
        eps=None if eps == 1e-5 else repr(eps),
    )  # fmt: skip
    return f"{text}[0]"


@lower("im2col")
def _im2col(s: Scope, op: Op) -> str:
    _batched(op, 4)
    return call("F.unfold", s(op.args[0]), *(_plain(a) for a in op.args[1:5]))


@lower("col2im")
def _col2im(s: Scope, op: Op) -> str:
    _batched(op, 3)
    return call("F.fold", s(op.args[0]), *(_plain(a) for a in op.args[1:6]))


def _batched(op: Op, rank: int) -> None:
    if op.args[0].rank != rank:
        raise NotImplementedError(f"{op.name} without a batch axis")


def _with_indices(spatial: int) -> Any:
    def rule(s: Scope, op: Op) -> str:
        names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
        given = dict(zip(names, op.args[1:], strict=False)) | op.kwargs
        defaults = {"stride": [], "padding": 0, "dilation": 1, "ceil_mode": False}
        extra = {
            key: _plain(value)
            for key, value in given.items()
            if key in defaults and value != defaults[key] and value != [defaults[key]] * spatial
        }
        window = _plain(given["kernel_size"])
        return call(f"F.max_pool{spatial}d", s(op.args[0]), window, **extra, return_indices="True")

    return rule


for _n in (1, 2, 3):
    lower(f"max_pool{_n}d_with_indices")(_with_indices(_n))
