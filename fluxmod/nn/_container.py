"""Containers whose children sit directly at torch's names: ``features.0``, no level between."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from operator import index as as_index
from typing import Any, overload

from flax import nnx

from ._axes import Axes, chain
from ._module import Module, named_children

__all__ = ["Container", "Identity", "ModuleDict", "ModuleList", "Sequential"]


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


class Children(Module):
    """Shared by containers: named children as attributes, kept in order.

    Names are text in NNX paths too, "0" and not 0: NNX cannot sort a state that has both kinds.
    """

    def _items(self) -> list[tuple[str, Any]]:
        return list(named_children(self))

    def _put(self, items: Iterable[tuple[str, Any]]) -> None:
        """Assign children; all names and kinds are checked before the first is assigned."""
        checked = [(name, self._check(name, value)) for name, value in items]
        for name, value in checked:
            setattr(self, name, value)

    def _check(self, name: str, value: Any) -> Any:
        """Return the child to store, or raise as torch's ``add_module`` does."""
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
        return value

    def _rebuild(self, items: list[tuple[str, Any]]) -> None:
        """Replace all children; their order becomes the order of ``items``."""
        items = [(name, self._check(name, value)) for name, value in items]
        for name, _ in self._items():
            delattr(self, name)
        for name, value in items:
            setattr(self, name, value)

    def __len__(self) -> int:
        return len(self._items())

    def __hash__(self) -> int:
        return id(self)


class Container(Children):
    """Hold named modules; the twin of ``torch.nn.Container``, deprecated there and here.

    Source: torch.nn.Container, PyTorch 2.13 documentation.
    """

    def __init__(self, **kwargs: Any) -> None:
        warnings.warn("Container is deprecated; subclass nn.Module.", FutureWarning, stacklevel=2)
        self._put(kwargs.items())


class Listed(Children):
    """Children named "0", "1", ... and reached by position."""

    def _position(self, index: int) -> int:
        size, index = len(self), as_index(index)
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
        build: Any = type(self)
        return build([child for _, child in items])

    def __setitem__(self, index: int, module: Any) -> None:
        name = self._items()[self._position(index)][0]
        setattr(self, name, self._check("0", module))

    def __delitem__(self, index: int | slice) -> None:
        items = self._items()
        if isinstance(index, slice):
            del items[index]
        else:
            del items[self._position(index)]
        self._renumber([child for _, child in items])

    def _renumber(self, children: list[Any]) -> None:
        """Replace all children by these, named "0", "1", ...; names are lost, as in torch."""
        self._rebuild([(str(i), child) for i, child in enumerate(children)])

    def append(self, module: Any) -> Any:
        """Add a child at the end and return the container."""
        return self.extend([module])

    def extend(self, modules: Iterable[Any]) -> Any:
        """Add several children at the end and return the container."""
        start = len(self)
        self._put([(str(start + i), module) for i, module in enumerate(modules)])
        return self

    def insert(self, index: int, module: Any) -> Any:
        """Insert a child before position ``index`` and return the container.

        Raises:
            IndexError: no such position.
            KeyError: a child has a name of its own and cannot be moved to the next number.
        """
        items, size = self._items(), len(self)
        owner = type(self).__name__
        if not -size <= as_index(index) <= size:
            raise IndexError(f"{owner}: index {index} is out of range for {size}.")
        if named := [name for i, (name, _) in enumerate(items) if name != str(i)]:
            raise KeyError(f"{owner}: cannot insert beside children with their own names {named}.")
        children = [child for _, child in items]
        children.insert(index, module)
        self._renumber(children)
        return self

    def pop(self, index: int | slice) -> Any:
        """Remove the child at ``index`` and return it."""
        child = self[index]
        del self[index]
        return child

    def __iadd__(self, other: Iterable[Any]) -> Any:
        return self.extend(other)


class Sequential(Listed):
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
        self._put(items)

    @property
    def axes(self) -> Axes:
        """Derived from the children's declarations."""
        return chain([(n, getattr(c, "axes", Axes())) for n, c in self._items()])

    def _sliced(self, items: list[tuple[str, Any]]) -> Any:
        return type(self)(OrderedDict(items))

    def __add__(self, other: Sequential) -> Sequential:
        if not isinstance(other, Sequential):
            raise ValueError(f"Sequential: can only add a Sequential, got {type(other).__name__}.")
        return Sequential(*self, *other)

    def __iadd__(self, other: Iterable[Any]) -> Any:
        if not isinstance(other, Sequential):
            raise ValueError(f"Sequential: can only add a Sequential, got {type(other).__name__}.")
        return self.extend(other)

    def __mul__(self, times: int) -> Sequential:
        return Sequential(*list(self) * self._times(times))

    __rmul__ = __mul__

    def __imul__(self, times: int) -> Any:
        return self.extend(list(self) * (self._times(times) - 1))

    @staticmethod
    def _times(times: int) -> int:
        if not isinstance(times, int):
            raise TypeError(f"Sequential: can only repeat by an int, got {type(times).__name__}.")
        if times <= 0:
            raise ValueError(f"Sequential: can only repeat a positive number of times: {times}.")
        return times

    def __call__(self, input: Any) -> Any:
        for module in self:
            input = module(input)
        return input


class ModuleList(Listed):
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
        self.extend(() if modules is None else modules)

    def __add__(self, other: Iterable[Any]) -> ModuleList:
        return ModuleList([*self, *other])


class ModuleDict(Children):
    """A dictionary of modules in order of insertion.

    >>> from fluxmod import nn
    >>> acts = nn.ModuleDict({"relu": nn.ReLU(), "sigmoid": nn.Sigmoid()})
    >>> list(acts), "relu" in acts
    (['relu', 'sigmoid'], True)

    Source: torch.nn.ModuleDict, PyTorch 2.13 documentation.
    """

    def __init__(self, modules: Mapping[str, Any] | Iterable[tuple[str, Any]] | None = None):
        self.update({} if modules is None else modules)

    def update(self, modules: Mapping[str, Any] | Iterable[tuple[str, Any]]) -> None:
        """Add or replace children."""
        self._put(dict(modules).items())

    def __getitem__(self, name: str) -> Any:
        children = dict(self._items())
        if name not in children:
            raise KeyError(f"ModuleDict: no child {name!r}; it has {list(children)}.")
        return children[name]

    def __setitem__(self, name: str, module: Any) -> None:
        self._put([(name, module)])

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
