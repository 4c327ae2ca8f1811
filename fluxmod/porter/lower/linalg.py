"""Products of matrices and FFTs."""

from __future__ import annotations

from typing import Any

from fluxmod.porter.ir import Op

from ._table import Scope, call, given, lower


@lower("matmul", "mm", "bmm", "mv", "dot", "vdot")
def _matmul(s: Scope, op: Op) -> str:
    return f"{s(op.args[0])} @ {s(op.args[1])}"


@lower("linear")
def _linear(s: Scope, op: Op) -> str:
    bias = given(op, 2, "bias")
    kernel = s.transposed(op.args[1])  # type: ignore[attr-defined]
    return call("F.linear", s(op.args[0]), kernel, "" if bias is None else s(bias))


@lower("addmm", "baddbmm")
def _addmm(s: Scope, op: Op) -> str:
    beta, alpha = op.kwargs.get("beta", 1), op.kwargs.get("alpha", 1)
    fraction = any(isinstance(n, float) and not n.is_integer() for n in (beta, alpha))
    if fraction and not op.out.dtype.is_floating_point:
        raise NotImplementedError("integers scaled by a fraction")
    bias = s(op.args[0]) if beta == 1 else f"{beta!r} * {s(op.args[0])}"
    product = f"{s(op.args[1])} @ {s(op.args[2])}"
    product = product if alpha == 1 else f"{alpha!r} * ({product})"
    return product if beta == 0 else f"{bias} + {product}"


@lower("einsum")
def _einsum(s: Scope, op: Op) -> str:
    return call("jnp.einsum", repr(op.args[0]), *(s(v) for v in op.args[1]))


@lower("outer")
def _outer(s: Scope, op: Op) -> str:
    return call("jnp.outer", s(op.args[0]), s(op.args[1]))


@lower("bilinear")
def _bilinear(s: Scope, op: Op) -> str:
    return call("F.bilinear", *(s(a) for a in op.args if a is not None))


def _fft(name: str) -> Any:
    plural = name.endswith(("n", "2"))

    def rule(s: Scope, op: Op) -> str:
        size, dim = given(op, 1, "s" if plural else "n"), given(op, 2, "dim")
        norm = given(op, 3, "norm")
        if plural:
            keywords = {"s": size and str(tuple(size)), "axes": dim and str(tuple(dim))}
        else:
            keywords = {"n": size and str(size), "axis": None if dim in (None, -1) else str(dim)}
        of_two = not plural or dim is None or len(dim) == 2
        function = name if of_two else f"{name[:-1]}n"  # torch's fft2 takes any number of axes
        return call(f"jnp.fft.{function}", s(op.args[0]), **keywords, norm=norm and repr(norm))

    return rule


for _name in ("fft", "ifft", "rfft", "irfft", "fft2", "ifft2", "rfft2", "irfft2", "fftn", "ifftn",
              "rfftn", "irfftn"):  # fmt: skip
    lower(f"fft_{_name}")(_fft(_name))


@lower("view_as_complex")
def _view_as_complex(s: Scope, op: Op) -> str:
    return f"jax.lax.complex({s(op.args[0])}[..., 0], {s(op.args[0])}[..., 1])"


@lower("view_as_real")
def _view_as_real(s: Scope, op: Op) -> str:
    return f"jnp.stack([{s(op.args[0])}.real, {s(op.args[0])}.imag], axis=-1)"


@lower("complex")
def _complex(s: Scope, op: Op) -> str:
    real, imag = op.args[:2]
    if real.dtype != imag.dtype:
        raise NotImplementedError(f"complex of {real.dtype} and {imag.dtype}")
    if real.shape == imag.shape:
        return call("jax.lax.complex", s(real), s(imag))
    return f"jax.lax.complex(*jnp.broadcast_arrays({s(real)}, {s(imag)}))"


@lower("polar")
def _polar(s: Scope, op: Op) -> str:
    size, angle = s(op.args[0]), s(op.args[1])
    return f"jax.lax.complex({size} * jnp.cos({angle}), {size} * jnp.sin({angle}))"


@lower("_weight_norm")
def _weight_norm(s: Scope, op: Op) -> str:
    direction, magnitude, dim = op.args[0], op.args[1], given(op, 2, "dim", 0)
    axes = tuple(a for a in range(direction.rank) if a != dim % direction.rank)
    text = s(direction)
    norm = f"jnp.linalg.norm({text}, axis={axes}, keepdims=True)"
    if len(axes) != 2:
        norm = f"jnp.sqrt(({text} ** 2).sum(axis={axes}, keepdims=True))"
    return f"{text} * ({s(magnitude)} / {norm})"


@lower("_grouped_mm", "transformers.grouped_mm_fallback")
def _grouped_mm(s: Scope, op: Op) -> str:
    """Rows in consecutive groups, each with its own matrix; torch gives where the groups end."""
    rows, matrices, ends = op.args[0], op.args[1], given(op, 2, "offs")
    if matrices.rank != 3 or rows.rank != 2 or ends is None:
        raise NotImplementedError("_grouped_mm of other ranks than (2, 3)")
    return call("jax.lax.ragged_dot", s(rows), s(matrices), f"jnp.diff({s(ends)}, prepend=0)")
