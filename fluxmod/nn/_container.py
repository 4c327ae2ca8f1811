"""Containers whose children sit directly at torch's names: ``features.0``, not ``features.layers.0``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, overload

from flax import nnx

from ._axes import Axes, chain
from ._module import Module, named_children, named_variables

__all__ = ["Identity", "ModuleDict", "ModuleList", "ParameterDict", "ParameterList", "Sequential"]


class Identity(Module):
    """Return the input unchanged; accepts and ignores any arguments, as ``torch.nn.Identity`` does.

    >>> Identity(54, unused=0.1)(3)
    3

    Source: torch.nn.Identity, PyTorch 2.13 documentation.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        del args, kwargs

    @property
    def axes(self) -> Axes:
        """Any order, kept."""
        return Axes(elementwise=True)

    def __call__(self, input: Any) -> Any:
        return input


class _Children(Module):
    """Shared by containers: named children as attributes, kept in order."""

    # NNX turns attribute names that are numbers into integer path parts and sorts them as numbers.
    _pytree__has_int_keys = True

    def _items(self) -> list[tuple[str, Any]]:
        return list(named_children(self))

    def _put(self, name: str, value: Any) -> None:
        """Assign a child after checking its name and its kind, as torch's ``add_module`` does."""
        self._check(name, value)
        setattr(self, name, value)

    def _check(self, name: str, value: Any) -> None:
        owner = type(self).__name__
        if not isinstance(name, str):
            raise TypeError(f"{owner}: child names are strings, got {name!r} ({type(name)}).")
        if not name or "." in name:
            raise KeyError(f"{owner}: a child's name is not empty and has no '.', got {name!r}.")
        if hasattr(type(self), name):
            raise KeyError(f"{owner}: attribute {name!r} already exists; use another name.")
        if not isinstance(value, nnx.Module):
            raise TypeError(
                f"{owner}: child {name!r} must be an nnx.Module, got {type(value).__name__}. "
                "Wrap a function in a module of its own."
            )

    def _rebuild(self, items: list[tuple[str, Any]]) -> None:
        """Replace all children; their order becomes the order of ``items``."""
        for name, value in items:
            self._check(name, value)
        for name, _ in self._items():
            delattr(self, name)
        for name, value in items:
            setattr(self, name, value)

    def __len__(self) -> int:
        return len(self._items())

    def __hash__(self) -> int:
        return id(self)


class _Listed(_Children):
    """Children named "0", "1", ... and reached by position."""

    def _position(self, index: int) -> int:
        size = len(self)
        if not -size <= index < size:
            raise IndexError(f"{type(self).__name__}: index {index} is out of range for {size}.")
        return index % size

    def __iter__(self) -> Iterator[Any]:
        return iter([child for _, child in self._items()])

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> Any: ...
    def __getitem__(self, index: int | slice) -> Any:
        items = self._items()
        if isinstance(index, slice):
            return self._sliced(items[index])
        return items[self._position(index)][1]

    def _sliced(self, items: list[tuple[str, Any]]) -> Any:
        return type(self)([child for _, child in items])

    def __setitem__(self, index: int, module: Any) -> None:
        name = self._items()[self._position(index)][0]
        if not isinstance(module, nnx.Module):
            self._check(name, module)
        setattr(self, name, module)

    def __delitem__(self, index: int | slice) -> None:
        items = self._items()
        if isinstance(index, slice):
            del items[index]
        else:
            del items[self._position(index)]
        self._rebuild(self._renumber(items))

    @staticmethod
    def _renumber(items: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
        """Number the unnamed children again after one was removed or inserted."""
        return [
            (str(i) if name.isdigit() else name, child) for i, (name, child) in enumerate(items)
        ]

    def append(self, module: Any) -> Any:
        """Add a child at the end and return the container."""
        self._put(str(len(self)), module)
        return self

    def extend(self, modules: Iterable[Any]) -> Any:
        """Add several children at the end and return the container."""
        for module in list(modules):
            self.append(module)
        return self

    def insert(self, index: int, module: Any) -> Any:
        """Insert a child before position ``index`` and return the container."""
        items = self._items()
        items.insert(index, ("0", module))
        self._rebuild(self._renumber(items))
        return self

    def pop(self, index: int) -> Any:
        """Remove the child at ``index`` and return it."""
        child = self[index]
        del self[index]
        return child


class Sequential(_Listed):
    """Call the children one after another; positional, named (a mapping), or subclassed.

    >>> from fluxmod import nn
    >>> rngs = nnx.Rngs(0)
    >>> net = nn.Sequential(nn.Linear(4, 3, rngs=rngs), nn.ReLU(), nn.Linear(3, 2, rngs=rngs))
    >>> net[0].kernel.shape, len(net)
    ((4, 3), 3)
    >>> from collections import OrderedDict
    >>> nn.Sequential(OrderedDict(fc=nn.Linear(4, 2, rngs=rngs))).fc.kernel.shape
    (4, 2)

    Raises:
        TypeError: a child is not an ``nnx.Module``.

    Source: torch.nn.Sequential, PyTorch 2.13 documentation.
    """

    def __init__(self, *args: Any) -> None:
        if len(args) == 1 and isinstance(args[0], Mapping):
            items = list(args[0].items())
        else:
            items = [(str(i), module) for i, module in enumerate(args)]
        for name, module in items:
            self._put(name, module)

    @property
    def axes(self) -> Axes:
        """Derived from the children's declarations."""
        return chain([(n, getattr(c, "axes", Axes())) for n, c in self._items()])

    def _sliced(self, items: list[tuple[str, Any]]) -> Sequential:
        return Sequential(dict(items))

    def __call__(self, input: Any) -> Any:
        for module in self:
            input = module(input)
        return input


class ModuleList(_Listed):
    """A list of modules, found by ``named_parameters`` under "0", "1", ...

    >>> from fluxmod import nn
    >>> layers = nn.ModuleList(nn.Linear(4, 4, rngs=nnx.Rngs(i)) for i in range(3))
    >>> print(layers)
    ModuleList(
      (0-2): 3 x Linear(in_features=4, out_features=4, bias=True)
    )

    Source: torch.nn.ModuleList, PyTorch 2.13 documentation.
    """

    _merges_equal_children = True

    def __init__(self, modules: Iterable[Any] | None = None) -> None:
        self.extend(modules or ())

    def __add__(self, other: Iterable[Any]) -> ModuleList:
        return ModuleList([*self, *other])


class ModuleDict(_Children):
    """A dictionary of modules in order of insertion.

    >>> from fluxmod import nn
    >>> acts = nn.ModuleDict({"relu": nn.ReLU(), "sigmoid": nn.Sigmoid()})
    >>> list(acts), "relu" in acts
    (['relu', 'sigmoid'], True)

    Source: torch.nn.ModuleDict, PyTorch 2.13 documentation.
    """

    def __init__(self, modules: Mapping[str, Any] | Iterable[tuple[str, Any]] | None = None):
        self.update(modules or {})

    def update(self, modules: Mapping[str, Any] | Iterable[tuple[str, Any]]) -> None:
        """Add or replace children."""
        for name, module in dict(modules).items():
            self[name] = module

    def __getitem__(self, name: str) -> Any:
        children = dict(self._items())
        if name not in children:
            raise KeyError(f"ModuleDict: no child {name!r}; it has {list(children)}.")
        return children[name]

    def __setitem__(self, name: str, module: Any) -> None:
        self._put(name, module)

    def __delitem__(self, name: str) -> None:
        self[name]
        delattr(self, name)

    def __contains__(self, name: object) -> bool:
        return name in self.keys()

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def keys(self) -> list[str]:
        """Names of the children."""
        return [name for name, _ in self._items()]

    def values(self) -> list[Any]:
        """The children."""
        return [child for _, child in self._items()]

    def items(self) -> list[tuple[str, Any]]:
        """Pairs of name and child."""
        return self._items()

    def pop(self, name: str) -> Any:
        """Remove a child and return it."""
        child = self[name]
        delattr(self, name)
        return child

    def clear(self) -> None:
        """Remove all children."""
        self._rebuild([])


class _Parameters(_Children):
    """Shared by the parameter containers."""

    def _items(self) -> list[tuple[str, Any]]:
        return list(named_variables(self))

    def _check(self, name: str, value: Any) -> None:
        if not isinstance(value, nnx.Variable):
            raise TypeError(
                f"{type(self).__name__}: entry {name!r} must be an nn.Parameter, "
                f"got {type(value).__name__}."
            )
        if not isinstance(name, str) or not name or "." in name or hasattr(type(self), name):
            raise KeyError(f"{type(self).__name__}: {name!r} cannot be the name of an entry.")


class ParameterList(_Parameters, _Listed):
    """A list of parameters named "0", "1", ...; arrays become ``nn.Parameter``.

    >>> import jax.numpy as jnp
    >>> [p.shape for p in ParameterList([jnp.ones(2), jnp.ones(3)])]
    [(2,), (3,)]

    Source: torch.nn.ParameterList, PyTorch 2.13 documentation.
    """

    def __init__(self, values: Iterable[Any] | None = None) -> None:
        self.extend(values or ())

    def append(self, module: Any) -> ParameterList:
        """Add a parameter at the end and return the container."""
        self._put(str(len(self)), _as_parameter(module))
        return self

    def __setitem__(self, index: int, module: Any) -> None:
        setattr(self, self._items()[self._position(index)][0], _as_parameter(module))


class ParameterDict(_Parameters):
    """A dictionary of parameters in order of insertion; arrays become ``nn.Parameter``.

    >>> import jax.numpy as jnp
    >>> table = ParameterDict({"left": jnp.ones(2)})
    >>> table["left"].shape, list(table)
    ((2,), ['left'])

    Source: torch.nn.ParameterDict, PyTorch 2.13 documentation.
    """

    def __init__(self, parameters: Mapping[str, Any] | None = None) -> None:
        for name, value in (parameters or {}).items():
            self[name] = value

    def __getitem__(self, name: str) -> Any:
        entries = dict(self._items())
        if name not in entries:
            raise KeyError(f"ParameterDict: no entry {name!r}; it has {list(entries)}.")
        return entries[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self._put(name, _as_parameter(value))

    def __delitem__(self, name: str) -> None:
        self[name]
        delattr(self, name)

    def __contains__(self, name: object) -> bool:
        return name in self.keys()

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def keys(self) -> list[str]:
        """Names of the entries."""
        return [name for name, _ in self._items()]

    def values(self) -> list[Any]:
        """The parameters."""
        return [value for _, value in self._items()]

    def items(self) -> list[tuple[str, Any]]:
        """Pairs of name and parameter."""
        return self._items()


def _as_parameter(value: Any) -> nnx.Variable[Any]:
    return value if isinstance(value, nnx.Variable) else nnx.Param(value)
