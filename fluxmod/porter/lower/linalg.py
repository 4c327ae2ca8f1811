"""Products of matrices and FFTs."""

from __future__ import annotations

from typing import Any

import torch

from fluxmod.porter.ir import Op, Value

from ._table import Scope, call, given, lower
from .reduce import _order


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


# --- products -------------------------------------------------------------------------------------


@lower("inner", "kron")
def _product(s: Scope, op: Op) -> str:
    if op.args[0].dtype == torch.bool:
        raise NotImplementedError(f"{op.name} of bools")
    return call(f"jnp.{op.name}", s(op.args[0]), s(op.args[1]))


@lower("tensordot")
def _tensordot(s: Scope, op: Op) -> str:
    ours, theirs = (tuple(op.args[i]) for i in (2, 3))
    sizes = [
        [v.shape[a] for a in axes] for v, axes in zip(op.args[:2], (ours, theirs), strict=True)
    ]
    if sizes[0] != sizes[1]:
        raise NotImplementedError("tensordot over axes of different sizes")
    return call("jnp.tensordot", s(op.args[0]), s(op.args[1]), axes=repr((ours, theirs)))


@lower("linalg_cross")
def _cross(s: Scope, op: Op) -> str:
    dim = given(op, 2, "dim", -1)
    axis = None if dim == -1 else repr(dim)
    return call("jnp.cross", s(op.args[0]), s(op.args[1]), axis=axis)


@lower("linalg_vecdot")
def _vecdot(s: Scope, op: Op) -> str:
    dim = given(op, 2, "dim", -1)
    return call(
        "jnp.linalg.vecdot", s(op.args[0]), s(op.args[1]), axis=None if dim == -1 else repr(dim)
    )


@lower("addr")
def _addr(s: Scope, op: Op) -> str:
    beta, alpha = op.kwargs.get("beta", 1), op.kwargs.get("alpha", 1)
    if (beta, alpha) != (1, 1):
        raise NotImplementedError("addr with factors")
    return f"{s(op.args[0])} + jnp.outer({s(op.args[1])}, {s(op.args[2])})"


@lower("cdist")
def _cdist(s: Scope, op: Op) -> str:
    order = given(op, 2, "p", 2.0)
    between = f"{s(op.args[0])}[..., :, None, :] - {s(op.args[1])}[..., None, :, :]"
    return call("ops.norm", between, ord=None if order == 2 else _order(order), dim="-1")


@lower("pdist")
def _pdist(s: Scope, op: Op) -> str:
    order = given(op, 1, "p", 2.0)
    return call("F.pdist", s(op.args[0]), "" if order == 2 else _order(order))


@lower("dist")
def _dist(s: Scope, op: Op) -> str:
    order = given(op, 2, "p", 2)
    between = f"{s(op.args[0])} - {s(op.args[1])}"
    return call("ops.norm", between, ord=None if order == 2 else _order(order))


# --- matrices -------------------------------------------------------------------------------------

_OF_ONE = {
    "linalg_inv": "jnp.linalg.inv", "linalg_det": "jnp.linalg.det",
    "linalg_slogdet": "jnp.linalg.slogdet", "linalg_eigvals": "jnp.linalg.eigvals",
    "linalg_svdvals": "jnp.linalg.svdvals", "linalg_matrix_exp": "jax.scipy.linalg.expm",
    "linalg_eigh": "jnp.linalg.eigh", "linalg_eigvalsh": "jnp.linalg.eigvalsh",
}  # fmt: skip


@lower(*_OF_ONE)
def _of_one(s: Scope, op: Op) -> str:
    if op.args[0].dtype in (torch.float16, torch.bfloat16):
        raise NotImplementedError("matrices in half precision")
    if 0 in op.args[0].shape[-2:]:
        raise NotImplementedError("matrices without elements")
    if given(op, 1, "UPLO", "L") != "L":
        raise NotImplementedError("eigenvalues from the upper triangle")
    lower_half = "False" if op.name in ("linalg_eigh", "linalg_eigvalsh") else None
    return call(_OF_ONE[op.name], s(op.args[0]), symmetrize_input=lower_half)


@lower("linalg_pinv.default", "linalg_pinv.atol_rtol_tensor")
def _pinv(s: Scope, op: Op) -> str:
    tolerances = [given(op, i, k) for i, k in enumerate(("atol", "rtol", "rcond"), 1)]
    if any(isinstance(t, (Value, float)) and t != 1e-15 for t in tolerances):
        raise NotImplementedError("linalg.pinv with tolerances")
    hermitian = "True" if op.kwargs.get("hermitian") else None
    return call("jnp.linalg.pinv", s(op.args[0]), hermitian=hermitian)


@lower("linalg_cholesky")
def _cholesky(s: Scope, op: Op) -> str:
    upper = "True" if given(op, 1, "upper", False) else None
    return call("jnp.linalg.cholesky", s(op.args[0]), upper=upper)


@lower("linalg_qr")
def _qr(s: Scope, op: Op) -> str:
    mode = given(op, 1, "mode", "reduced")
    if mode == "r":
        raise NotImplementedError("linalg.qr of R alone")
    return call("jnp.linalg.qr", s(op.args[0]), mode=None if mode == "reduced" else repr(mode))


@lower("linalg_solve")
def _solve(s: Scope, op: Op) -> str:
    if op.kwargs.get("left") is False:
        raise NotImplementedError("linalg.solve from the right")
    matrix, right = op.args[:2]
    if right.rank == matrix.rank - 1 and matrix.shape[:-1] == right.shape:  # a row of vectors
        return f"jnp.linalg.solve({s(matrix)}, {s(right)}[..., None])[..., 0]"
    return call("jnp.linalg.solve", s(matrix), s(right))


@lower("linalg_solve_triangular")
def _solve_triangular(s: Scope, op: Op) -> str:
    if op.kwargs.get("left") is False or op.args[0].rank != op.args[1].rank:
        raise NotImplementedError("linalg.solve_triangular from the right, or of other ranks")
    return call(
        "jax.scipy.linalg.solve_triangular", s(op.args[0]), s(op.args[1]),
        lower=None if op.kwargs["upper"] else "True",
        unit_diagonal="True" if op.kwargs.get("unitriangular") else None,
    )  # fmt: skip


@lower("linalg_matrix_power")
def _matrix_power(s: Scope, op: Op) -> str:
    return call("jnp.linalg.matrix_power", s(op.args[0]), repr(op.args[1]))


@lower("linalg_multi_dot", "chain_matmul")
def _multi_dot(s: Scope, op: Op) -> str:
    return f"jnp.linalg.multi_dot([{', '.join(s(v) for v in op.args[0])}])"
