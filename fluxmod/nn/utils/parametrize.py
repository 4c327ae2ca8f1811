"""Weights computed from other arrays; the twin of ``torch.nn.utils.parametrize``.

Everything below ``layer.parametrizations`` is in torch's order of axes, the originals too, so that
a parametrization means what it means in torch. The layer gets its kernel in Flax's order.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from fluxmod.nn._container import ModuleDict, ModuleList
from fluxmod.nn._module import Module, named_variables
from fluxmod.nn.rules import Leaf, leaves_of

__all__ = [
    "ParametrizationList",
    "cached",
    "is_parametrized",
    "leaf_of",
    "register_parametrization",
    "remove_parametrizations",
    "transfer_parametrizations_and_params",
    "type_before_parametrizations",
    "weight_of",
]

_cache: dict[int, tuple[Any, jax.Array]] | None = None
"""Inside ``cached``: the list and its weight by the list's identity."""


@contextmanager
def cached() -> Iterator[None]:
    """Compute every parametrized weight once inside the block, however often it is read.

    Open the block inside the function that is traced.

    >>> from fluxmod import nn
    >>> layer = register_parametrization(nn.Linear(2, 2, rngs=nnx.Rngs(0)), "weight", nn.Tanh())
    >>> with cached():
    ...     layer.kernel is layer.kernel
    True

    Source: torch.nn.utils.parametrize.cached, PyTorch 2.13 documentation.
    """
    global _cache
    outer, _cache = _cache, _cache if _cache is not None else {}
    try:
        yield
    finally:
        _cache = outer


class ParametrizationList(ModuleList):
    """The originals of one weight and the modules that compute it from them.

    ``original`` holds one array, ``original0``, ``original1``, ... what a ``right_inverse`` made
    of several. Call it for the weight in torch's order of axes. Made by
    ``register_parametrization``.

    Source: torch.nn.utils.parametrize.ParametrizationList, PyTorch 2.13 documentation.
    """

    def __init__(
        self, modules: Sequence[nnx.Module], original: nnx.Variable[Any], unsafe: bool = False
    ) -> None:
        super().__init__(modules)
        self.unsafe = unsafe
        new = self._inverse(original.get_value(), strict=False)
        self.ntensors = 0 if not isinstance(new, Sequence) else len(new)
        kind = type(original)
        metadata = {k: v for k, v in original.get_metadata().items() if k == "requires_grad"}
        for name, value in zip(self.original_names, self._parts(new), strict=True):
            setattr(self, name, kind(value, **metadata))
        if not unsafe:
            _check_fits(jax.eval_shape(lambda: _peek(self)), original.get_value())

    @property
    def is_tensor(self) -> bool:
        """Whether there is one original."""
        return self.ntensors == 0

    @property
    def original_names(self) -> list[str]:
        """Names of the originals."""
        return ["original"] if self.is_tensor else [f"original{i}" for i in range(self.ntensors)]

    def __call__(self) -> jax.Array:  # noqa: D102
        first, *rest = list(self)
        value = first(*(getattr(self, name)[...] for name in self.original_names))
        for module in rest:
            value = module(value)
        return value

    def right_inverse(self, value: jax.Array) -> None:
        """Set the originals so that the weight becomes ``value``, as far as they can express it."""
        for name, part in zip(
            self.original_names, self._parts(self._inverse(value, strict=True)), strict=True
        ):
            variable = getattr(self, name)
            if part.dtype != variable.dtype:
                raise ValueError(
                    f"ParametrizationList: right_inverse returned {part.dtype} for {name}, which "
                    f"is {variable.dtype}."
                )
            variable.set_value(part)

    def _inverse(self, value: Any, *, strict: bool) -> Any:
        for module in reversed(list(self)):
            inverse = getattr(module, "right_inverse", None)
            if inverse is None:
                if strict:
                    raise NotImplementedError(
                        f"ParametrizationList: {type(module).__name__} has no right_inverse, so "
                        "its weight cannot be set; set the originals."
                    )
                continue
            try:
                value = inverse(value)
            except NotImplementedError:
                if strict:
                    raise
        return value

    def _parts(self, value: Any) -> list[jax.Array]:
        return list(value) if isinstance(value, Sequence) else [value]


def register_parametrization(
    module: Module, tensor_name: str, parametrization: nnx.Module, *, unsafe: bool = False
) -> Any:
    """Compute a layer's weight by a module from now on, and return the layer.

    The layer's class becomes ``Parametrized<Class>``, a subclass. A ``right_inverse`` method, where
    the parametrization has one, tells what to keep of the present weight.

    Args:
        tensor_name: torch's name of the weight, "weight" for a ``kernel``.
        parametrization: called with the original, and returns the weight, in torch's order of axes.
        unsafe: the weight may change its shape and dtype.

    Raises:
        ValueError: no weight of that name; a weight of another shape or dtype.

    >>> from fluxmod import nn
    >>> class Symmetric(nn.Module):
    ...     def __call__(self, x):
    ...         return jnp.triu(x) + jnp.triu(x, 1).mT
    >>> layer = register_parametrization(nn.Linear(3, 3, rngs=nnx.Rngs(0)), "weight", Symmetric())
    >>> bool((layer.kernel == layer.kernel.T).all())
    True
    >>> layer.parametrizations.weight.original.shape
    (3, 3)

    Source: torch.nn.utils.parametrize.register_parametrization, PyTorch 2.13 documentation.
    """
    if is_parametrized(module, tensor_name):
        every = module.parametrizations[tensor_name]  # type: ignore[attr-defined]
        before = jax.eval_shape(lambda: _peek(every))
        if not unsafe:
            call: Any = parametrization
            _check_fits(jax.eval_shape(lambda: call(before)), before)
        if inverse := getattr(parametrization, "right_inverse", None):
            every.right_inverse(inverse(every()))
        every.append(parametrization)
        return module
    leaf = leaf_of(module, tensor_name, "register_parametrization")
    variable = getattr(module, leaf.flax)
    original = variable.replace(jnp.asarray(leaf.to_torch(variable.get_value())))
    every = ParametrizationList([parametrization], original, unsafe)
    names = {**_names(type(module)), tensor_name: leaf}
    delattr(module, leaf.flax)
    module.__class__ = _parametrized(type_before_parametrizations(module), tuple(names.items()))
    if len(names) == 1:
        module.parametrizations = ModuleDict()  # type: ignore[attr-defined]
    module.parametrizations[tensor_name] = every  # type: ignore[attr-defined]
    return module


def remove_parametrizations(
    module: Module, tensor_name: str, leave_parametrized: bool = True
) -> Any:
    """Make a plain weight of a parametrized one again, and return the layer.

    Args:
        leave_parametrized: the weight keeps the computed value; else it becomes the original.

    Raises:
        ValueError: the weight is not parametrized, or has several originals and is to become them.

    >>> from fluxmod import nn
    >>> layer = register_parametrization(nn.Linear(2, 2, rngs=nnx.Rngs(0)), "weight", nn.Tanh())
    >>> print(remove_parametrizations(layer, "weight"))
    Linear(in_features=2, out_features=2, bias=True)

    Source: torch.nn.utils.parametrize.remove_parametrizations, PyTorch 2.13 documentation.
    """
    if not is_parametrized(module, tensor_name):
        raise ValueError(
            f"remove_parametrizations: {type(module).__name__} has no parametrization on "
            f"{tensor_name!r}."
        )
    names = _names(type(module))
    every = module.parametrizations[tensor_name]  # type: ignore[attr-defined]
    if not (leave_parametrized or every.is_tensor):
        raise ValueError(
            "remove_parametrizations: leave_parametrized=False needs one original, and "
            f"{tensor_name!r} has {every.ntensors}."
        )
    first = getattr(every, every.original_names[0])
    value = every() if leave_parametrized else first.get_value()
    leaf = names.pop(tensor_name)
    base = type_before_parametrizations(module)
    module.__class__ = _parametrized(base, tuple(names.items())) if names else base
    setattr(module, leaf.flax, first.replace(jnp.asarray(leaf.to_flax(value))))
    del module.parametrizations[tensor_name]  # type: ignore[attr-defined]
    if not names:
        del module.parametrizations  # type: ignore[attr-defined]
    return module


def is_parametrized(module: nnx.Module, tensor_name: str | None = None) -> bool:
    """Whether a layer, or its weight of this torch name, is parametrized.

    >>> from fluxmod import nn
    >>> is_parametrized(nn.Linear(2, 2, rngs=nnx.Rngs(0)))
    False

    Source: torch.nn.utils.parametrize.is_parametrized, PyTorch 2.13 documentation.
    """
    names = _names(type(module))
    return bool(names) if tensor_name is None else tensor_name in names


def type_before_parametrizations(module: nnx.Module) -> type:
    """Return the class that a layer had before.

    Source: torch.nn.utils.parametrize.type_before_parametrizations, PyTorch 2.13.
    """
    cls = type(module)
    return cls.__bases__[0] if _names(cls) else cls


def transfer_parametrizations_and_params(
    from_module: Module, to_module: Module, tensor_name: str | None = None
) -> Any:
    """Parametrize a layer by the same modules as another, with the other's originals.

    The modules are shared, as in torch. Returns ``to_module``.

    Source: torch.nn.utils.parametrize.transfer_parametrizations_and_params, PyTorch 2.13.
    """
    wanted = _names(type(from_module)) if tensor_name is None else {tensor_name: None}
    for name in wanted:
        if not is_parametrized(from_module, name):
            raise ValueError(
                f"transfer_parametrizations_and_params: {type(from_module).__name__} has no "
                f"parametrization on {name!r}."
            )
        theirs = from_module.parametrizations[name]  # type: ignore[attr-defined]
        for module in theirs:
            register_parametrization(to_module, name, module, unsafe=theirs.unsafe)
        ours = to_module.parametrizations[name]  # type: ignore[attr-defined]
        for original in theirs.original_names:
            setattr(ours, original, getattr(theirs, original).copy())
    return to_module


def leaf_of(module: nnx.Module, tensor_name: str, who: str) -> Leaf:
    """Return the weight rule of a layer's variable that torch calls ``tensor_name``."""
    variables = dict(named_variables(module))
    found = {leaf.torch: leaf for leaf in leaves_of(module) if leaf.flax in variables}
    for name in set(variables) - {leaf.flax for leaf in found.values()}:
        found[name] = Leaf(name, name)
    if tensor_name not in found:
        raise ValueError(
            f"{who}: {type(module).__name__} has no parameter or buffer that torch calls "
            f"{tensor_name!r}; it has {sorted(found)}."
        )
    return found[tensor_name]


def weight_of(module: nnx.Module, tensor_name: str, who: str) -> jax.Array:
    """Return a weight by its torch name, in torch's order of axes, parametrized or not."""
    if is_parametrized(module, tensor_name):
        return _peek(module.parametrizations[tensor_name])  # type: ignore[attr-defined]
    leaf = leaf_of(module, tensor_name, who)
    return jnp.asarray(leaf.to_torch(getattr(module, leaf.flax).get_value()))


def _names(cls: type) -> dict[str, Leaf]:
    """The parametrized weights of a class made here."""
    return dict(vars(cls).get("_parametrized", ()))


@functools.cache
def _parametrized(base: type, names: tuple[tuple[str, Leaf], ...]) -> type:
    """The subclass in which the named weights are computed; one for each choice of names."""
    computed = {leaf.flax: _property(name, leaf) for name, leaf in names}
    body = {"_parametrized": names, "__doc__": base.__doc__, "__module__": base.__module__}
    return type(f"Parametrized{base.__name__}", (base,), {**body, **computed})


def _property(name: str, leaf: Leaf) -> property:
    def get(self: Any) -> jax.Array:
        every = self.parametrizations[name]
        if _cache is None:
            return jnp.asarray(leaf.to_flax(every()))
        if id(every) not in _cache:
            _cache[id(every)] = every, jnp.asarray(leaf.to_flax(every()))
        return _cache[id(every)][1]

    def set(self: Any, value: Any) -> None:
        self.parametrizations[name].right_inverse(jnp.asarray(leaf.to_torch(jnp.asarray(value))))

    return property(get, set, doc=f"torch's {name!r}, computed from ``parametrizations``.")


def _check_fits(got: Any, want: Any) -> None:
    shape, dtype = getattr(got, "shape", None), getattr(got, "dtype", None)
    if (shape, dtype) != (want.shape, want.dtype):
        raise ValueError(
            f"register_parametrization: expected a weight of {want.dtype}{list(want.shape)} "
            f"(torch's order of axes), the parametrization returns {got}. With unsafe=True it may."
        )


def _peek(every: ParametrizationList) -> jax.Array:
    """The weight as evaluation mode computes it, on a copy: buffers stay as they are."""
    copy = nnx.clone(every)
    copy.eval()
    return copy()
