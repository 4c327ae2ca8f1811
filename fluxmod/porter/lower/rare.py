"""Operators that few models use."""

from __future__ import annotations

from fluxmod.porter import overrides
from fluxmod.porter.ir import Op

from ._table import Scope, call, lower
from .layers import _plain


@lower("batch_norm")
def _batch_norm(s: Scope, op: Op) -> str:
    mean, var = op.args[3:5]
    return f"{call('F.batch_norm', s(op.args[0]), s(mean), s(var), **_affine(s, op))}[0]"


@lower("batch_norm.training")
def _batch_norm_training(s: Scope, op: Op) -> str:
    affine = _affine(s, op)
    return call("F.batch_norm", s(op.args[0]), "None", "None", **affine, training="True")


def _affine(s: Scope, op: Op) -> dict[str, str | None]:
    """The settings of a norm that stand before and after its statistics."""
    weight, bias, eps = op.args[1], op.args[2], op.args[7]
    return {
        "scale": None if weight is None else s(weight),
        "bias": None if bias is None else s(bias),
        "eps": None if eps == 1e-5 else repr(eps),
    }


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


@lower("override")
def _override(s: Scope, op: Op) -> str:
    """An operator for which the user gave a function."""
    function = overrides.active().operator(op.target.removeprefix("override."))
    named = {key: s(value) for key, value in op.kwargs.items()}
    return call(function.__name__, *(s(a) for a in op.args), **named)


@lower("fluxmod.cond")
def _cond(s: Scope, op: Op) -> str:
    """A choice; what only one branch needs is written inside of it, and computed only then."""
    test, *branches = op.args
    texts = [s(results[0]) if len(results) == 1 else s(results) for results in branches]
    flag = s(test) if not test.rank else f"{s(test)}.squeeze()"
    return call("jax.lax.cond", flag, *(f"lambda: {text}" for text in texts))
