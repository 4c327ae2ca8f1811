"""Activation layers made of exponentials, and GLU."""

from __future__ import annotations

import jax
import jax.numpy as jnp  # noqa: F401 - used by the doctests

from fluxmod.nn import functional as F

from ._activation import Elementwise, shown

__all__ = [
    "CELU",
    "ELU",
    "GELU",
    "GLU",
    "SELU",
    "LogSigmoid",
    "Mish",
    "SiLU",
    "Sigmoid",
    "Softplus",
    "Softsign",
    "Tanh",
    "Tanhshrink",
]


class ELU(Elementwise):
    """Compute x above 0 and ``alpha * (exp(x) - 1)`` below; the twin of ``torch.nn.ELU``.

    >>> ELU()(jnp.array([-50.0, 0.0, 2.0])).tolist()
    [-1.0, 0.0, 2.0]

    Source: torch.nn.ELU, PyTorch 2.13 documentation; Clevert et al., 2015.
    """

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        self.alpha = alpha
        self.inplace = inplace

    def __call__(self, input: jax.Array) -> jax.Array:
        return F.elu(input, self.alpha)

    def extra_repr(self) -> str:
        """Return the arguments as torch prints them."""
        return shown(f"alpha={self.alpha}", inplace=self.inplace)


class SELU(Elementwise):
    """Compute the self-normalising elu; the twin of ``torch.nn.SELU``.

    >>> [f"{y:.4f}" for y in SELU()(jnp.array([-50.0, 0.0, 2.0]))]
    ['-1.7581', '0.0000', '2.1014']

    Source: torch.nn.SELU, PyTorch 2.13 documentation; Klambauer et al., 2017.
    """

    def __init__(self, inplace: bool = False) -> None:
        self.inplace = inplace

    def __call__(self, input: jax.Array) -> jax.Array:
        return F.selu(input)

    def extra_repr(self) -> str:
        """Return the arguments as torch prints them."""
        return shown(inplace=self.inplace)


class CELU(Elementwise):
    """Compute the elu with slope 1 at 0 for every alpha; the twin of ``torch.nn.CELU``.

    Raises:
        ValueError: ``alpha`` is 0, when called.

    >>> CELU(0.5)(jnp.array([-50.0, 0.0, 2.0])).tolist()
    [-0.5, 0.0, 2.0]

    Source: torch.nn.CELU, PyTorch 2.13 documentation; Barron, 2017.
    """

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        self.alpha = alpha
        self.inplace = inplace

    def __call__(self, input: jax.Array) -> jax.Array:
        return F.celu(input, self.alpha)

    def extra_repr(self) -> str:
        """Return the arguments as torch prints them."""
        return shown(f"alpha={self.alpha}", inplace=self.inplace)


class GELU(Elementwise):
    """Multiply by the normal distribution function; the twin of ``torch.nn.GELU``.

    Args:
        approximate: 'none' is exact, 'tanh' the older approximation (Flax's default).

    Raises:
        ValueError: any other ``approximate``, when called.

    >>> [f"{y:.4f}" for y in GELU()(jnp.array([-1.0, 0.0, 1.0]))]
    ['-0.1587', '0.0000', '0.8413']

    Source: torch.nn.GELU, PyTorch 2.13 documentation; Hendrycks and Gimpel, 2016.
    """

    def __init__(self, approximate: str = "none") -> None:
        self.approximate = approximate

    def __call__(self, input: jax.Array) -> jax.Array:
        return F.gelu(input, self.approximate)

    def extra_repr(self) -> str:
        """Return the arguments as torch prints them."""
        return f"approximate={self.approximate!r}"


class SiLU(Elementwise):
    """Compute ``x * sigmoid(x)``; the twin of ``torch.nn.SiLU``.

    >>> [f"{y:.4f}" for y in SiLU()(jnp.array([-1.0, 0.0, 1.0]))]
    ['-0.2689', '0.0000', '0.7311']

    Source: torch.nn.SiLU, PyTorch 2.13 documentation; Elfwing et al., 2017.
    """

    def __init__(self, inplace: bool = False) -> None:
        self.inplace = inplace

    def __call__(self, input: jax.Array) -> jax.Array:
        return F.silu(input)

    def extra_repr(self) -> str:
        """Return the arguments as torch prints them."""
        return shown(inplace=self.inplace)


class Mish(Elementwise):
    """Compute ``x * tanh(softplus(x))``; the twin of ``torch.nn.Mish``.

    >>> [f"{y:.4f}" for y in Mish()(jnp.array([-1.0, 0.0, 1.0]))]
    ['-0.3034', '0.0000', '0.8651']

    Source: torch.nn.Mish, PyTorch 2.13 documentation; Misra, 2019.
    """

    def __init__(self, inplace: bool = False) -> None:
        self.inplace = inplace

    def __call__(self, input: jax.Array) -> jax.Array:
        return F.mish(input)

    def extra_repr(self) -> str:
        """Return the arguments as torch prints them."""
        return shown(inplace=self.inplace)


class Sigmoid(Elementwise):
    """Compute ``1 / (1 + exp(-x))``; the twin of ``torch.nn.Sigmoid``.

    >>> Sigmoid()(jnp.array([0.0])).tolist()
    [0.5]

    Source: torch.nn.Sigmoid, PyTorch 2.13 documentation.
    """

    def __call__(self, input: jax.Array) -> jax.Array:
        return F.sigmoid(input)


class Tanh(Elementwise):
    """Compute the hyperbolic tangent; the twin of ``torch.nn.Tanh``.

    >>> Tanh()(jnp.array([0.0])).tolist()
    [0.0]

    Source: torch.nn.Tanh, PyTorch 2.13 documentation.
    """

    def __call__(self, input: jax.Array) -> jax.Array:
        return F.tanh(input)


class Softplus(Elementwise):
    """Compute ``log(1 + exp(beta * x)) / beta``; the twin of ``torch.nn.Softplus``.

    Args:
        threshold: above it ``beta * x`` is taken as is.

    >>> [f"{y:.4f}" for y in Softplus()(jnp.array([0.0, 21.0]))]
    ['0.6931', '21.0000']

    Source: torch.nn.Softplus, PyTorch 2.13 documentation.
    """

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        self.beta = beta
        self.threshold = threshold

    def __call__(self, input: jax.Array) -> jax.Array:
        return F.softplus(input, self.beta, self.threshold)

    def extra_repr(self) -> str:
        """Return the arguments as torch prints them."""
        return f"beta={self.beta}, threshold={self.threshold}"


class Softsign(Elementwise):
    """Compute ``x / (1 + |x|)``; the twin of ``torch.nn.Softsign``.

    >>> Softsign()(jnp.array([-1.0, 3.0])).tolist()
    [-0.5, 0.75]

    Source: torch.nn.Softsign, PyTorch 2.13 documentation.
    """

    def __call__(self, input: jax.Array) -> jax.Array:
        return F.softsign(input)


class LogSigmoid(Elementwise):
    """Compute ``log(sigmoid(x))`` without overflow; the twin of ``torch.nn.LogSigmoid``.

    >>> LogSigmoid()(jnp.array([-1000.0])).tolist()
    [-1000.0]

    Source: torch.nn.LogSigmoid, PyTorch 2.13 documentation.
    """

    def __call__(self, input: jax.Array) -> jax.Array:
        return F.logsigmoid(input)


class Tanhshrink(Elementwise):
    """Compute ``x - tanh(x)``; the twin of ``torch.nn.Tanhshrink``.

    >>> Tanhshrink()(jnp.array([0.0])).tolist()
    [0.0]

    Source: torch.nn.Tanhshrink, PyTorch 2.13 documentation.
    """

    def __call__(self, input: jax.Array) -> jax.Array:
        return F.tanhshrink(input)


class GLU(Elementwise):
    """Gate one half of an axis with the other; the twin of ``torch.nn.GLU``.

    Args:
        dim: the axis to halve, counted in the array given: the channels of a feature map are on
            axis 1 in torch and on axis -1 here.

    Raises:
        IndexError: no such axis.
        ValueError: an axis of odd size.

    >>> GLU()(jnp.array([[8.0, 0.0]])).tolist()
    [[4.0]]

    Source: torch.nn.GLU, PyTorch 2.13 documentation; Dauphin et al., 2016.
    """

    def __init__(self, dim: int = -1) -> None:
        self.dim = dim

    def __call__(self, input: jax.Array) -> jax.Array:
        return F.glu(input, self.dim)

    def extra_repr(self) -> str:
        """Return the arguments as torch prints them."""
        return f"dim={self.dim}"
