"""Arithmetic, comparisons and activations: any order of axes, kept."""

from __future__ import annotations

import inspect
import re
from typing import Any

import torch

from fluxmod.nn import functional
from fluxmod.porter.ir import Op, Size, Value

from ._table import DTYPES, ELEMENTWISE, Scope, call, given, lower, value_of

_BINARY = {
    "add": "+", "sub": "-", "mul": "*", "div": "/", "true_divide": "/", "multiply": "*",
    "subtract": "-", "divide": "/", "floor_divide": "//", "remainder": "%", "fmod": None,
    "eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">=",
    "__and__": "&", "__or__": "|", "__xor__": "^", "bitwise_and": "&", "bitwise_or": "|",
    "bitwise_xor": "^", "__lshift__": "<<", "__rshift__": ">>",
    "bitwise_left_shift": "<<", "bitwise_right_shift": ">>",
}  # fmt: skip


def _operand(s: Scope, op: Op, index: int) -> str:
    value = op.args[index]
    return s(value) if isinstance(value, Value) else s.number(op, index)


def _binary(symbol: str) -> Any:
    def rule(s: Scope, op: Op) -> str:
        left, right = _operand(s, op, 0), _operand(s, op, 1)
        alpha = value_of(given(op, 2, "alpha", 1))
        if "alpha" in op.kwargs and alpha != 1:
            right = f"({alpha!r} * {right})"
        mode = op.kwargs.get("rounding_mode")
        if mode == "floor":
            return f"{left} // {right}"
        if mode == "trunc" and not op.out.dtype.is_floating_point:
            return f"({left} - jnp.fmod({left}, {right})) // {right}"
        if mode == "trunc":
            return f"jnp.trunc({left} / {right})"
        return f"{left} {symbol} {right}"

    return rule


for _name, _symbol in _BINARY.items():
    if _symbol:
        lower(_name, elementwise=True)(_binary(_symbol))


@lower("fmod", elementwise=True)
def _fmod(s: Scope, op: Op) -> str:
    return call("jnp.fmod", _operand(s, op, 0), _operand(s, op, 1))


@lower("rsub", elementwise=True)
def _rsub(s: Scope, op: Op) -> str:
    alpha = value_of(given(op, 2, "alpha", 1))
    scale = "" if alpha == 1 else f"{alpha!r} * "
    return f"{_operand(s, op, 1)} - {scale}{s(op.args[0])}"


@lower("pow", elementwise=True)
def _pow(s: Scope, op: Op) -> str:
    return f"{_operand(s, op, 0)} ** {_operand(s, op, 1)}"


@lower("neg", elementwise=True)
def _neg(s: Scope, op: Op) -> str:
    return f"-{s(op.args[0])}"


@lower("bitwise_not", elementwise=True)
def _not(s: Scope, op: Op) -> str:
    return f"~{s(op.args[0])}"


_LOGICAL = {"logical_and": "&", "logical_or": "|", "logical_xor": "^", "logical_not": "~"}


@lower(*_LOGICAL, elementwise=True)
def _logical(s: Scope, op: Op) -> str:
    """An operator between bools; of other dtypes it would work on bits, or not at all."""
    values = [s(value) for value in op.args]
    if any(value.dtype != torch.bool for value in op.args):
        return call(f"jnp.{op.name}", *values)
    return (
        f"{_LOGICAL[op.name]}{values[0]}"
        if len(values) == 1
        else f" {_LOGICAL[op.name]} ".join(values)
    )


_UNARY = {
    "exp": "jnp.exp", "log": "jnp.log", "sqrt": "jnp.sqrt",
    "sin": "jnp.sin", "cos": "jnp.cos", "tan": "jnp.tan",
    "floor": "jnp.floor", "ceil": "jnp.ceil", "trunc": "jnp.trunc",
    "square": "jnp.square", "reciprocal": "jnp.reciprocal", "erf": "jax.scipy.special.erf",
    "log1p": "jnp.log1p", "expm1": "jnp.expm1", "log2": "jnp.log2", "log10": "jnp.log10",
    "exp2": "jnp.exp2", "sinh": "jnp.sinh", "cosh": "jnp.cosh", "asin": "jnp.arcsin",
    "acos": "jnp.arccos", "atan": "jnp.arctan", "isnan": "jnp.isnan", "isinf": "jnp.isinf",
    "isfinite": "jnp.isfinite", "real": "jnp.real", "imag": "jnp.imag", "angle": "jnp.angle",
    "_conj": "jnp.conj", "conj": "jnp.conj", "erfinv": "jax.scipy.special.erfinv",
    "detach": "jax.lax.stop_gradient", "sinc": "jnp.sinc",
    "atanh": "jnp.arctanh", "asinh": "jnp.arcsinh", "acosh": "jnp.arccosh",
    "zeros_like": "jnp.zeros_like", "ones_like": "jnp.ones_like", "log_sigmoid": "F.logsigmoid",
    "nan_to_num": "jnp.nan_to_num", "deg2rad": "jnp.deg2rad", "empty_like": "jnp.zeros_like",
}  # fmt: skip


@lower("lgamma", elementwise=True)
def _lgamma(s: Scope, op: Op) -> str:
    if op.args[0].dtype == torch.bool:
        raise NotImplementedError("lgamma of bools")
    return call("jax.scipy.special.gammaln", s(op.args[0]))


@lower("round", elementwise=True)
def _round(s: Scope, op: Op) -> str:
    decimals = op.kwargs.get("decimals", 0)
    return call("jnp.round", s(op.args[0]), str(decimals) if decimals else "")


def _unary(function: str) -> Any:
    def rule(s: Scope, op: Op) -> str:
        dtype = op.kwargs.get("dtype")
        if dtype is not None and dtype != op.args[0].dtype:
            return call(function, s(op.args[0]), dtype=DTYPES[dtype])
        return call(function, s(op.args[0]))

    return rule


for _name, _function in _UNARY.items():
    lower(_name, elementwise=True)(_unary(_function))


@lower("rsqrt", elementwise=True)
def _rsqrt(s: Scope, op: Op) -> str:
    text = s(op.args[0])
    return (
        call("jax.lax.rsqrt", text)
        if op.args[0].dtype.is_floating_point
        else f"1 / jnp.sqrt({text})"
    )


@lower("sign", "sgn", elementwise=True)
def _sign(s: Scope, op: Op) -> str:
    text = s(op.args[0])
    return text if op.args[0].dtype == torch.bool else call("jnp.sign", text)


_BINARY_CALLS = {
    "maximum": "jnp.maximum", "minimum": "jnp.minimum", "atan2": "jnp.arctan2",
    "logaddexp": "jnp.logaddexp", "hypot": "jnp.hypot", "xlogy": "jax.scipy.special.xlogy",
    "fmax": "ops.fmax", "fmin": "ops.fmin",
    "min.other": "jnp.minimum", "max.other": "jnp.maximum",
}  # fmt: skip


def _binary_call(function: str) -> Any:
    def rule(s: Scope, op: Op) -> str:
        return call(function, _operand(s, op, 0), _operand(s, op, 1))

    return rule


for _name, _function in _BINARY_CALLS.items():
    if not _function.startswith("_"):
        lower(_name, elementwise=True)(_binary_call(_function))

_ACTIVATIONS = (
    "relu", "relu6", "gelu", "silu", "sigmoid", "tanh", "elu", "selu", "celu", "leaky_relu",
    "hardtanh", "hardswish", "hardsigmoid", "hardshrink", "softplus", "softshrink", "softsign",
    "mish", "threshold", "logsigmoid", "tanhshrink",
)  # fmt: skip


def _activation(name: str) -> Any:
    signature = inspect.signature(getattr(functional, name))
    names = [n for n in signature.parameters if n != "inplace"]
    defaults = {n: p.default for n, p in signature.parameters.items()}

    def rule(s: Scope, op: Op) -> str:
        arguments = dict(zip(names, op.args, strict=False)) | op.kwargs
        extra = {
            n: s(v) if isinstance(v, (Value, Size)) else repr(v)
            for n, v in list(arguments.items())[1:]
            if v != defaults.get(n)
        }
        return call(f"F.{name}", s(op.args[0]), **extra)

    return rule


for _name in _ACTIVATIONS:
    if hasattr(functional, _name):
        lower(_name, elementwise=True)(_activation(_name))


@lower("clamp", "clip", elementwise=True)
def _clamp(s: Scope, op: Op) -> str:
    low, high = given(op, 1, "min"), given(op, 2, "max")
    return _clamped(s, op, low, high)


@lower("clamp_min", elementwise=True)
def _clamp_min(s: Scope, op: Op) -> str:
    return _clamped(s, op, op.args[1], None)


@lower("clamp_max", elementwise=True)
def _clamp_max(s: Scope, op: Op) -> str:
    return _clamped(s, op, None, op.args[1])


def _clamped(s: Scope, op: Op, low: Any, high: Any) -> str:
    bounds = {"min": None if low is None else s(low), "max": None if high is None else s(high)}
    function = "ops.clamp" if op.out.dtype.is_floating_point else "jnp.clip"
    return call(function, s(op.args[0]), **bounds)


@lower("abs", elementwise=True)
def _abs(s: Scope, op: Op) -> str:
    function = "ops.abs" if op.args[0].dtype.is_floating_point else "jnp.abs"
    return call(function, s(op.args[0]))


@lower("where.self", "where.ScalarOther", "where.ScalarSelf", "where.Scalar", elementwise=True)
def _where(s: Scope, op: Op) -> str:
    return call("jnp.where", *(s(a) for a in op.args))


ELEMENTWISE.add("where")


@lower("masked_fill", elementwise=True)
def _masked_fill(s: Scope, op: Op) -> str:
    value, mask, fill = op.args
    if value.dtype == torch.bool and not isinstance(fill, Value):
        fill = bool(fill)
    return call("jnp.where", s(mask), s(fill), s(value))


@lower("lerp", elementwise=True)
def _lerp(s: Scope, op: Op) -> str:
    start, end, weight = (s(a) for a in op.args)
    return f"{start} + {weight} * ({end} - {start})"


@lower("addcmul", elementwise=True)
def _addcmul(s: Scope, op: Op) -> str:
    value = op.kwargs.get("value", 1)
    scale = "" if value == 1 else f"{value!r} * "
    return f"{s(op.args[0])} + {scale}{s(op.args[1])} * {s(op.args[2])}"


@lower("addcdiv", elementwise=True)
def _addcdiv(s: Scope, op: Op) -> str:
    value = op.kwargs.get("value", 1)
    scale = "" if value == 1 else f"{value!r} * "
    return f"{s(op.args[0])} + {scale}{s(op.args[1])} / {s(op.args[2])}"


def _says_no_dtype(text: str) -> bool:
    """Whether a cast in torch's source is to a dtype that a variable holds: ``x.to(dtype)``."""
    return re.search(r"\.to\((?:\w+, |dtype=)?[\w.]*\bdtype\b(?!=)", text) is not None


@lower("to", "type_as", "_to_copy", elementwise=True)
def _to(s: Scope, op: Op) -> str:
    """A cast: to the dtype that the source names, or to the dtype of another array."""
    value = op.args[0]
    if op.name == "type_as" and isinstance(op.args[1], Value):
        return f"{s(value)}.astype({s(op.args[1])}.dtype)"
    dtype = op.out.dtype
    if (reference := s.dtype_like(op)) is not None:
        return f"{s(value)}.astype({reference})"
    if dtype.is_floating_point and "float32" not in op.call_text and ".float(" not in op.call_text:
        reference = s.like(op)  # type: ignore[attr-defined]
        if reference:
            return f"{s(value)}.astype({reference})"
        if dtype == torch.get_default_dtype() and _says_no_dtype(op.call_text):
            return f"{s(value)}.astype(float)"  # a variable of torch's source: the model's own
    if dtype == torch.int64:
        return f"{s(value)}.astype(int)"
    return f"{s(value)}.astype({DTYPES[dtype]})"


@lower("full_like", elementwise=True)
def _full_like(s: Scope, op: Op) -> str:
    dtype = None if op.out.dtype == op.args[0].dtype else DTYPES[op.out.dtype]
    return call("jnp.full_like", s(op.args[0]), s(op.args[1]), dtype=dtype)


@lower("fill", elementwise=True)
def _fill(s: Scope, op: Op) -> str:
    return call("jnp.full_like", s(op.args[0]), s(op.args[1]))


@lower("zero", elementwise=True)
def _zero(s: Scope, op: Op) -> str:
    return call("jnp.zeros_like", s(op.args[0]))


@lower("copy")
def _copy(s: Scope, op: Op) -> str:
    before, new = op.args[:2]
    text = s(new)
    if new.shape != before.shape:
        text = call("jnp.broadcast_to", text, f"{s(before)}.shape")
    return text if new.dtype == before.dtype else f"{text}.astype({DTYPES[before.dtype]})"


@lower("fluxmod.same")
def _same(s: Scope, op: Op) -> str:
    return s(op.args[0])
