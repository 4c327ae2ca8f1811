"""Functions of single numbers that few models use, and other names for common ones."""

from __future__ import annotations

from typing import Any

from fluxmod.porter.ir import Op, Value

from ._table import Scope, call, dtype_of, given, lower

__all__ = ["ALIASES"]

ALIASES = {
    "absolute": "abs", "arccos": "acos", "arccosh": "acosh", "arcsin": "asin", "arcsinh": "asinh",
    "arctan": "atan", "arctan2": "atan2", "arctanh": "atanh", "fix": "trunc", "negative": "neg",
    "less": "lt", "less_equal": "le", "greater": "gt", "greater_equal": "ge", "not_equal": "ne",
    "special_digamma": "digamma", "special_psi": "digamma", "special_erf": "erf",
    "special_erfc": "erfc", "special_erfinv": "erfinv", "special_exp2": "exp2",
    "special_expit": "sigmoid", "special_expm1": "expm1", "special_gammaln": "lgamma",
    "special_gammainc": "igamma", "special_gammaincc": "igammac", "special_log1p": "log1p",
    "special_logit": "logit", "special_round": "round",
    "special_sinc": "sinc", "special_xlogy": "xlogy", "special_softmax": "softmax",
    "special_log_softmax": "log_softmax", "special_logsumexp": "logsumexp",
    "linalg_matmul": "matmul", "linalg_diagonal": "diagonal", "det": "linalg_det",
    "inverse": "linalg_inv", "pinverse": "linalg_pinv", "slogdet": "linalg_slogdet",
    "matrix_exp": "linalg_matrix_exp", "matrix_power": "linalg_matrix_power", "moveaxis": "movedim",
    "row_stack": "vstack", "ger": "outer", "i0": "special_i0",
}  # fmt: skip
"""Operators that are others under another name."""

_UNARY = {
    "digamma": "jax.scipy.special.digamma", "erfc": "jax.scipy.special.erfc",
    "special_i0": "jax.scipy.special.i0", "special_i0e": "jax.scipy.special.i0e",
    "special_i1": "jax.scipy.special.i1", "special_i1e": "jax.scipy.special.i1e",
    "special_entr": "jax.scipy.special.entr",
    "signbit": "jnp.signbit", "rad2deg": "jnp.rad2deg",
}  # fmt: skip
_BINARY = {
    "copysign": "jnp.copysign",
    "gcd": "jnp.gcd", "lcm": "jnp.lcm", "igamma": "jax.scipy.special.gammainc",
    "igammac": "jax.scipy.special.gammaincc", "logaddexp2": "jnp.logaddexp2",
    "special_xlog1py": "jax.scipy.special.xlog1py",
}  # fmt: skip


def _function(name: str, count: int) -> Any:
    def rule(s: Scope, op: Op) -> str:
        numbers = [s(a) if isinstance(a, Value) else repr(a) for a in op.args[:count]]
        return call(name, *numbers)

    return rule


for _table, _count in ((_UNARY, 1), (_BINARY, 2)):
    for _name, _text in _table.items():
        lower(_name, elementwise=True)(_function(_text, _count))


@lower("logit", elementwise=True)
def _logit(s: Scope, op: Op) -> str:
    text, eps = s(op.args[0]), given(op, 1, "eps")
    if eps is not None:
        text = f"jnp.clip({text}, {eps!r}, 1 - {eps!r})"
    return call("jax.scipy.special.logit", text)


@lower("heaviside", elementwise=True)
def _heaviside(s: Scope, op: Op) -> str:
    text = call("jnp.heaviside", s(op.args[0]), s(op.args[1]))
    return text if op.out.dtype.is_floating_point else f"{text}.astype({dtype_of(op)})"


@lower("frac", elementwise=True)
def _frac(s: Scope, op: Op) -> str:
    return f"{s(op.args[0])} - jnp.trunc({s(op.args[0])})"


@lower("ldexp", elementwise=True)
def _ldexp(s: Scope, op: Op) -> str:
    return f"{s(op.args[0])} * 2.0 ** {s(op.args[1])}"


@lower("isin")
def _isin(s: Scope, op: Op) -> str:
    elements, among = (s(a) if isinstance(a, Value) else repr(a) for a in op.args[:2])
    inverted = "True" if op.kwargs.get("invert") else None
    return call("jnp.isin", elements, among, invert=inverted)
