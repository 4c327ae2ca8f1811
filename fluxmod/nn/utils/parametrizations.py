"""Weight, spectral and orthogonal parametrizations; ``torch.nn.utils.parametrizations``."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from fluxmod.nn import functional as F
from fluxmod.nn._conv_transpose import ConvTranspose1d, ConvTranspose2d, ConvTranspose3d
from fluxmod.nn._module import Buffer, Module

from .parametrize import register_parametrization, weight_of

__all__ = [
    "as_matrix",
    "norm_except",
    "orthogonal",
    "output_axis",
    "power_iterations",
    "spectral_norm",
    "weight_norm",
]

_MAPS = ("matrix_exp", "cayley", "householder")


def weight_norm(module: Module, name: str = "weight", dim: int | None = 0) -> Any:
    """Split a weight into its direction and its norm for each index of ``dim``.

    Args:
        name: torch's name of the weight.
        dim: the axis, in torch's order, that keeps norms of its own; None or -1 for one norm.

    Raises:
        ValueError: no weight of that name.

    >>> from fluxmod import nn
    >>> layer = weight_norm(nn.Linear(3, 5, rngs=nnx.Rngs(0)))
    >>> [x.shape for x in (layer.parametrizations.weight.original0, layer.kernel)]
    [(5, 1), (3, 5)]

    Source: torch.nn.utils.parametrizations.weight_norm, PyTorch 2.13; Salimans and Kingma, 2016.
    """
    return register_parametrization(module, name, _WeightNorm(dim), unsafe=True)


def spectral_norm(
    module: Module,
    name: str = "weight",
    n_power_iterations: int = 1,
    eps: float = 1e-12,
    dim: int | None = None,
    *,
    rngs: nnx.Rngs,
) -> Any:
    """Divide a weight by its largest singular value, followed by power iterations.

    In training mode each reading of the weight makes ``n_power_iterations`` and keeps the vectors.

    Args:
        name: torch's name of the weight.
        dim: the axis of the outputs, in torch's order; 0, and 1 for transposed convolutions.
        rngs: source of the 'params' keys of the first vectors.

    Raises:
        ValueError: no weight of that name; ``n_power_iterations`` below 1.
        IndexError: ``dim`` out of range.

    >>> from fluxmod import nn
    >>> layer = spectral_norm(nn.Linear(3, 5, rngs=nnx.Rngs(0)), rngs=nnx.Rngs(1))
    >>> float(jnp.linalg.norm(layer.eval() or layer.kernel, 2).round(3))
    1.0

    Source: torch.nn.utils.parametrizations.spectral_norm, PyTorch 2.13; Miyato et al., 2018.
    """
    weight = weight_of(module, name, "spectral_norm")
    axis = output_axis(module) if dim is None else dim
    computed = _SpectralNorm(weight, n_power_iterations, axis, eps, rngs=rngs)
    return register_parametrization(module, name, computed)


def orthogonal(
    module: Module,
    name: str = "weight",
    orthogonal_map: str | None = None,
    *,
    use_trivialization: bool = True,
) -> Any:
    """Keep the matrices on a weight's last two axes (in torch's order) orthogonal.

    Args:
        name: torch's name of the weight.
        orthogonal_map: 'matrix_exp', 'cayley' or 'householder'; by default the first for square
            and complex matrices and the last for others.
        use_trivialization: keep a base, and parametrize what is multiplied to it.

    Differs from torch: a base is completed by the decomposition itself, not at random.

    Raises:
        ValueError: no weight of that name, an unknown map, a complex weight and 'householder'.

    >>> from fluxmod import nn
    >>> layer = orthogonal(nn.Linear(3, 5, rngs=nnx.Rngs(0)))
    >>> bool(jnp.allclose(layer.kernel @ layer.kernel.T, jnp.eye(3), atol=1e-6))
    True

    Source: torch.nn.utils.parametrizations.orthogonal, PyTorch 2.13; Lezcano-Casado, 2019.
    """
    weight = weight_of(module, name, "orthogonal")
    if weight.ndim < 2:
        raise ValueError(
            f"orthogonal: expected a weight with two or more axes, got shape {weight.shape}."
        )
    if orthogonal_map is None:
        square = weight.shape[-2] == weight.shape[-1] or jnp.iscomplexobj(weight)
        orthogonal_map = "matrix_exp" if square else "householder"
    computed = _Orthogonal(weight, orthogonal_map, use_trivialization=use_trivialization)
    return register_parametrization(module, name, computed, unsafe=True)


class _WeightNorm(Module):
    def __init__(self, dim: int | None = 0) -> None:
        self.dim = -1 if dim is None else dim

    def __call__(self, weight_g: jax.Array, weight_v: jax.Array) -> jax.Array:
        return weight_v * (weight_g / norm_except(weight_v, self.dim))

    def right_inverse(self, weight: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Split a weight into norm and direction."""
        return norm_except(weight, self.dim), weight


class _SpectralNorm(Module):
    def __init__(
        self,
        weight: jax.Array,
        n_power_iterations: int = 1,
        dim: int = 0,
        eps: float = 1e-12,
        *,
        rngs: nnx.Rngs,
    ) -> None:
        if not -weight.ndim <= dim < weight.ndim:
            raise IndexError(
                f"spectral_norm: dim must be in [{-weight.ndim}, {weight.ndim - 1}], got {dim}."
            )
        if n_power_iterations <= 0:
            raise ValueError(
                f"spectral_norm: n_power_iterations must be positive, got {n_power_iterations}."
            )
        self.dim, self.eps = dim % weight.ndim, eps
        if weight.ndim > 1:
            self.n_power_iterations = n_power_iterations
            matrix = as_matrix(weight, self.dim)
            u, v = (jax.random.normal(rngs.params(), (n,), weight.dtype) for n in matrix.shape)
            u, v = power_iterations(matrix, u, F.normalize(v, dim=0, eps=eps), 15, eps)
            self._u, self._v = Buffer(u), Buffer(v)

    def __call__(self, weight: jax.Array) -> jax.Array:
        if weight.ndim == 1:
            return F.normalize(weight, dim=0, eps=self.eps)
        matrix, u, v = as_matrix(weight, self.dim), self._u[...], self._v[...]
        if self.training:
            u, v = power_iterations(matrix, u, v, self.n_power_iterations, self.eps)
            self._u.set_value(u)
            self._v.set_value(v)
        return weight / jnp.vdot(u, matrix @ v)

    def right_inverse(self, value: jax.Array) -> jax.Array:
        """Take the value as it is."""
        return value


class _Orthogonal(Module):
    def __init__(
        self,
        weight: jax.Array,
        orthogonal_map: str,
        *,
        use_trivialization: bool = True,
    ) -> None:
        if orthogonal_map not in _MAPS:
            raise ValueError(
                f"orthogonal: orthogonal_map must be one of {_MAPS}, got {orthogonal_map!r}."
            )
        if jnp.iscomplexobj(weight) and orthogonal_map == "householder":
            raise ValueError("orthogonal: 'householder' takes no complex weight; use 'matrix_exp'.")
        self.shape, self.orthogonal_map = weight.shape, orthogonal_map
        if use_trivialization:
            self.base = Buffer(_completed(weight))

    def __call__(self, X: jax.Array) -> jax.Array:
        wide = X.shape[-2] < X.shape[-1]
        X = X.mT if wide else X
        n, k = X.shape[-2:]
        if self.orthogonal_map == "householder":
            signs = jnp.trunc(lax.stop_gradient(jnp.diagonal(X, axis1=-2, axis2=-1)))
            Q = _reflected(jnp.tril(X, -1)) * signs[..., None, :]
        else:
            lower = jnp.tril(X)
            lower = jnp.pad(lower, [(0, 0)] * (X.ndim - 1) + [(0, n - k)])
            A = lower - lower.mT.conj()
            Q = (_exp(A) if self.orthogonal_map == "matrix_exp" else _cayley(A))[..., :k]
        if hasattr(self, "base"):
            Q = self.base[...] @ Q
        return Q.mT if wide else Q

    def right_inverse(self, Q: jax.Array) -> jax.Array:
        """Make a matrix the base, or find the reflections that give it."""
        if Q.shape != self.shape:
            raise ValueError(f"orthogonal: expected shape {self.shape}, got {Q.shape}.")
        if hasattr(self, "base"):
            self.base.set_value(_completed(Q))
            eye = _eye(Q)
            return jnp.broadcast_to(-eye, Q.shape)
        if self.orthogonal_map != "householder":
            raise NotImplementedError(
                f"orthogonal: {self.orthogonal_map!r} without use_trivialization cannot be set to "
                "a value; its first value is the map of the weight."
            )
        wide = Q.shape[-2] < Q.shape[-1]
        transposed, tau = jnp.linalg.qr(Q.mT if wide else Q, mode="raw")
        A = transposed.mT
        signs = jnp.sign(jnp.diagonal(A, axis1=-2, axis2=-1)) * jnp.where(tau == 0, -1, 1)
        eye = _eye(A)
        A = jnp.where(eye == 1, jnp.pad(signs, _rest(A, A))[..., None, :], A)
        return A.mT if wide else A


def _eye(like: jax.Array) -> jax.Array:
    """The identity with the rows, columns and dtype of an array's matrices."""
    rows, columns = like.shape[-2:]
    return jnp.eye(rows, columns, dtype=like.dtype)


def norm_except(v: jax.Array, dim: int) -> jax.Array:
    """Return the norms over all axes but one, which are kept with size 1; -1 for one scalar."""
    if dim == -1:
        return jnp.sqrt((v * v.conj()).real.sum())
    axes = tuple(axis for axis in range(v.ndim) if axis != dim % v.ndim)
    return jnp.sqrt((v * v.conj()).real.sum(axes, keepdims=True))


def as_matrix(weight: jax.Array, dim: int) -> jax.Array:
    """One row for each index of an axis."""
    return jnp.moveaxis(weight, dim, 0).reshape(weight.shape[dim], -1)


def output_axis(module: Any) -> int:
    """The axis of a weight, in torch's order, that has the outputs."""
    return int(isinstance(module, (ConvTranspose1d, ConvTranspose2d, ConvTranspose3d)))


def power_iterations(
    matrix: jax.Array, u: jax.Array, v: jax.Array, steps: int, eps: float
) -> tuple[jax.Array, jax.Array]:
    """Follow the first singular vectors of a matrix; they are constants for a gradient."""
    matrix = lax.stop_gradient(matrix)
    for _ in range(steps):
        u = F.normalize(matrix @ v, dim=0, eps=eps)
        v = F.normalize(matrix.mT.conj() @ u, dim=0, eps=eps)
    return u, v


def _reflected(A: jax.Array) -> jax.Array:
    """The first columns of the product of I - 2 v v^T / |v|^2; v: columns of A, 1 on the diagonal.

    In the compact form I - V T V^T (Schreiber and Van Loan, 1989): the product that LAPACK forms
    reflection by reflection has no derivative in JAX.
    """
    k = A.shape[-1]
    eye = jnp.broadcast_to(_eye(A), A.shape)
    V = A + eye
    inner = V.mT @ V
    T = jnp.triu(inner, 1) + inner * jnp.eye(k, dtype=A.dtype) / 2
    return eye - V @ jax.scipy.linalg.solve_triangular(T, V[..., :k, :].mT)


def _exp(A: jax.Array) -> jax.Array:
    flat = A.reshape(-1, *A.shape[-2:])
    return jax.vmap(jax.scipy.linalg.expm)(flat).reshape(A.shape)


def _cayley(A: jax.Array) -> jax.Array:
    eye = jnp.eye(A.shape[-1], dtype=A.dtype)
    return jnp.linalg.solve(eye - A / 2, eye + A / 2)


def _completed(weight: jax.Array) -> jax.Array:
    """A square orthogonal matrix that begins with the weight's columns, made orthogonal."""
    Q = weight.mT if weight.shape[-2] < weight.shape[-1] else weight
    n, k = Q.shape[-2:]
    if n != k:
        return _orthogonalised(Q)
    close = 10 * n * float(jnp.finfo(Q.dtype).eps)
    near = jnp.allclose(Q.mT.conj() @ Q, jnp.eye(k, dtype=Q.dtype), rtol=1e-5, atol=close)
    return jnp.where(near, Q, _orthogonalised(Q))


def _orthogonalised(A: jax.Array) -> jax.Array:
    """The square Q of the decomposition whose R has a diagonal of positive signs."""
    Q, R = jnp.linalg.qr(A, mode="complete")
    signs = jnp.sign(jnp.diagonal(R, axis1=-2, axis2=-1))
    signs = jnp.pad(signs, _rest(Q, A), constant_values=1)
    return Q * signs[..., None, :]


def _rest(wide: jax.Array, A: jax.Array) -> list[tuple[int, int]]:
    """How to pad a diagonal of A to one entry for each column of ``wide``."""
    return [(0, 0)] * (A.ndim - 2) + [(0, wide.shape[-1] - min(A.shape[-2:]))]
