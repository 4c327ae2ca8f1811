"""weight_norm and spectral_norm as torch had them before parametrizations.

The arrays (``weight_g``, ``weight_v``) sit on the layer itself, in torch's order of axes, and the
kernel is computed from them.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from fluxmod.nn import functional as F
from fluxmod.nn._module import Buffer, Module
from fluxmod.nn.rules import Leaf

from .parametrizations import as_matrix, norm_except, output_axis, power_iterations
from .parametrize import leaf_of

__all__ = ["remove_spectral_norm", "remove_weight_norm", "spectral_norm", "weight_norm"]


@dataclass(frozen=True)
class _WeightNorm:
    """w = g v / |v|."""

    name: str
    leaf: Leaf
    dim: int

    def weight(self, module: Any) -> jax.Array:
        g, v = (getattr(module, f"{self.name}_{part}")[...] for part in "gv")
        return v * (g / norm_except(v, self.dim))


@dataclass(frozen=True)
class _SpectralNorm:
    """w = orig / (u^T orig v), u and v followed while training."""

    name: str
    leaf: Leaf
    dim: int
    n_power_iterations: int
    eps: float

    def weight(self, module: Any) -> jax.Array:
        training = not getattr(module, "deterministic", False)
        return self.divided(module, self.n_power_iterations if training else 0)

    def divided(self, module: Any, steps: int) -> jax.Array:
        """The weight after some power iterations."""
        orig, u, v = (getattr(module, f"{self.name}_{part}") for part in ("orig", "u", "v"))
        matrix = as_matrix(orig[...], self.dim)
        # the transpose's vectors the other way round: here v comes before u
        right, left = power_iterations(matrix.mT, v[...], u[...], steps, self.eps)
        if steps:
            u.set_value(left)
            v.set_value(right)
        return orig[...] / (left @ (matrix @ right))


def weight_norm(module: Module, name: str = "weight", dim: int | None = 0) -> Any:
    """Split a weight into ``weight_g`` and ``weight_v`` on the layer, and return the layer.

    ``parametrizations.weight_norm`` is the newer form, with other names.

    Raises:
        ValueError: no weight of that name.
        RuntimeError: the weight has this norm already.

    >>> from fluxmod import nn
    >>> layer = weight_norm(nn.Linear(3, 5, rngs=nnx.Rngs(0)))
    >>> layer.weight_g.shape, layer.weight_v.shape, layer.kernel.shape
    ((5, 1), (5, 3), (3, 5))

    Source: torch.nn.utils.weight_norm, PyTorch 2.13 documentation.
    """
    _refuse_second(module, name, _WeightNorm, "weight_norm")
    leaf = leaf_of(module, name, "weight_norm")
    variable = getattr(module, leaf.flax)
    value = jnp.asarray(leaf.to_torch(variable.get_value()))
    axis = -1 if dim is None else dim
    _hook(module, _WeightNorm(name, leaf, axis))
    setattr(module, f"{name}_g", variable.replace(norm_except(value, axis)))
    setattr(module, f"{name}_v", variable.replace(value))
    return module


def remove_weight_norm(module: Module, name: str = "weight") -> Any:
    """Make a plain weight again, with its present value, and return the layer.

    Raises:
        ValueError: the weight has no ``weight_norm``.

    >>> from fluxmod import nn
    >>> print(remove_weight_norm(weight_norm(nn.Linear(3, 5, rngs=nnx.Rngs(0)))))
    Linear(in_features=3, out_features=5, bias=True)

    Source: torch.nn.utils.remove_weight_norm, PyTorch 2.13 documentation.
    """
    hook = _found(module, name, _WeightNorm, "weight_norm")
    variable, value = getattr(module, f"{name}_v"), hook.weight(module)
    return _unhook(module, hook, variable, value, ("g", "v"))


def spectral_norm(
    module: Module,
    name: str = "weight",
    n_power_iterations: int = 1,
    eps: float = 1e-12,
    dim: int | None = None,
    *,
    rngs: nnx.Rngs,
) -> Any:
    """Divide a weight, kept as ``weight_orig``, by its largest singular value; return the layer.

    ``weight_u`` and ``weight_v`` follow the singular vectors while training.
    ``parametrizations.spectral_norm`` is the newer form, with other names.

    Args:
        dim: the axis of the outputs, in torch's order; 0, and 1 for transposed convolutions.
        rngs: source of the 'params' keys of the first vectors.

    Raises:
        ValueError: no weight of that name; ``n_power_iterations`` below 1.
        RuntimeError: the weight has this norm already.

    >>> from fluxmod import nn
    >>> layer = spectral_norm(nn.Linear(3, 5, rngs=nnx.Rngs(0)), rngs=nnx.Rngs(1))
    >>> layer.weight_orig.shape, layer.weight_u.shape, layer.weight_v.shape
    ((5, 3), (5,), (3,))

    Source: torch.nn.utils.spectral_norm, PyTorch 2.13 documentation.
    """
    if n_power_iterations <= 0:
        raise ValueError(
            f"spectral_norm: n_power_iterations must be positive, got {n_power_iterations}."
        )
    _refuse_second(module, name, _SpectralNorm, "spectral_norm")
    leaf = leaf_of(module, name, "spectral_norm")
    variable = getattr(module, leaf.flax)
    value = jnp.asarray(leaf.to_torch(variable.get_value()))
    axis = output_axis(module) if dim is None else dim
    h = value.shape[axis]
    u, v = (
        F.normalize(jax.random.normal(rngs.params(), (n,), value.dtype), dim=0, eps=eps)
        for n in (h, value.size // h)
    )
    _hook(module, _SpectralNorm(name, leaf, axis, n_power_iterations, eps))
    setattr(module, f"{name}_orig", variable.replace(value))
    setattr(module, f"{name}_u", Buffer(u))
    setattr(module, f"{name}_v", Buffer(v))
    return module


def remove_spectral_norm(module: Module, name: str = "weight") -> Any:
    """Make a plain weight again, with its present value, and return the layer.

    Raises:
        ValueError: the weight has no ``spectral_norm``.

    Source: torch.nn.utils.remove_spectral_norm, PyTorch 2.13 documentation.
    """
    hook = _found(module, name, _SpectralNorm, "spectral_norm")
    variable, value = getattr(module, f"{name}_orig"), hook.divided(module, 0)
    return _unhook(module, hook, variable, value, ("orig", "u", "v"))


def _hooks(cls: type) -> tuple[_WeightNorm | _SpectralNorm, ...]:
    return tuple(vars(cls).get("_norms", ()))


def _refuse_second(module: Any, name: str, kind: type[Any], who: str) -> None:
    if any(isinstance(hook, kind) and hook.name == name for hook in _hooks(type(module))):
        raise RuntimeError(f"{who}: {name!r} of this {type(module).__name__} has it already.")


def _found(module: Any, name: str, kind: type[Any], who: str) -> Any:
    for hook in _hooks(type(module)):
        if isinstance(hook, kind) and hook.name == name:
            return hook
    raise ValueError(f"remove_{who}: {name!r} of this {type(module).__name__} has no {who}.")


def _hook(module: Any, hook: Any) -> None:
    hooks = _hooks(type(module))
    delattr(module, hook.leaf.flax)
    module.__class__ = _computing(_base(module), (*hooks, hook))


def _unhook(module: Any, hook: Any, variable: Any, value: Any, parts: tuple[str, ...]) -> Any:
    left = tuple(other for other in _hooks(type(module)) if other != hook)
    for part in parts:
        delattr(module, f"{hook.name}_{part}")
    module.__class__ = _computing(_base(module), left) if left else _base(module)
    setattr(module, hook.leaf.flax, variable.replace(jnp.asarray(hook.leaf.to_flax(value))))
    return module


def _base(module: Any) -> type:
    cls = type(module)
    return cls.__bases__[0] if _hooks(cls) else cls


@functools.cache
def _computing(base: type, hooks: tuple[Any, ...]) -> type:
    """The subclass of the same name whose weights are computed; one for each set of norms."""

    def computed(hook: Any) -> property:
        return property(lambda self: jnp.asarray(hook.leaf.to_flax(hook.weight(self))))

    body = {"_norms": hooks, "__doc__": base.__doc__, "__module__": base.__module__}
    return type(base.__name__, (base,), {**body, **{h.leaf.flax: computed(h) for h in hooks}})
