"""Containers of parameters, which sit directly at torch's names: ``weights.0``."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from flax import nnx

from ._container import Children, Listed
from ._module import named_variables

__all__ = ["ParameterDict", "ParameterList"]


class _Parameters(Children):
    """Shared by the parameter containers."""

    def _items(self) -> list[tuple[str, Any]]:
        return list(named_variables(self))

    def _check(self, name: str, value: Any) -> Any:
        owner = type(self).__name__
        if not isinstance(name, str):
            raise TypeError(f"{owner}: names are strings, got {name!r} ({type(name).__name__}).")
        if not name or "." in name or hasattr(type(self), name):
            raise KeyError(f"{owner}: {name!r} cannot be the name of an entry.")
        if isinstance(value, (jax.Array, np.ndarray, jax.ShapeDtypeStruct)):
            return nnx.Param(jax.numpy.asarray(value) if isinstance(value, np.ndarray) else value)
        if not isinstance(value, nnx.Variable):
            raise TypeError(
                f"{owner}: entry {name!r} must be an nn.Parameter or an array, "
                f"got {type(value).__name__}."
            )
        return value

    def extra_repr(self) -> str:
        """Return one line per entry, as torch prints them."""
        return "\n".join(
            f"  ({name}): {'Parameter' if isinstance(value, nnx.Param) else 'Tensor'} containing: "
            f"[{self._type_name(str(value.dtype))} of size {'x'.join(map(str, value.shape))}]"
            for name, value in self._items()
        )

    def _type_name(self, dtype: str) -> str:
        return f"torch.{dtype}"


class ParameterList(_Parameters, Listed):
    """A list of parameters named "0", "1", ...; arrays become ``nn.Parameter``.

    Raises:
        TypeError: an entry is neither a Variable nor an array.

    >>> import jax.numpy as jnp
    >>> [p.shape for p in ParameterList([jnp.ones(2), jnp.ones(3)])]
    [(2,), (3,)]

    Source: torch.nn.ParameterList, PyTorch 2.13 documentation.
    """

    def __init__(self, values: Iterable[Any] | None = None) -> None:
        self.extend(() if values is None else values)

    def extend(self, modules: Iterable[Any]) -> Any:
        """Add several parameters at the end and return the container."""
        if hasattr(modules, "dtype"):
            raise TypeError(
                "ParameterList: expected an iterable of parameters, got one array; "
                "put it in a list."
            )
        return super().extend(modules)


class ParameterDict(_Parameters):
    """A dictionary of parameters; arrays become ``nn.Parameter``.

    As in torch a plain dictionary is taken in the order of its sorted names; an ``OrderedDict``,
    a ``ParameterDict`` or pairs keep theirs.

    Raises:
        TypeError: an entry is neither a Variable nor an array.

    >>> import jax.numpy as jnp
    >>> table = ParameterDict({"right": jnp.ones(2), "left": jnp.ones(3)})
    >>> table["left"].shape, list(table)
    ((3,), ['left', 'right'])

    Source: torch.nn.ParameterDict, PyTorch 2.13 documentation.
    """

    _NAMES = {
        "float32": "Float",
        "float64": "Double",
        "float16": "Half",
        "bfloat16": "BFloat16",
        "int32": "Int",
        "int64": "Long",
    }

    def __init__(self, parameters: Any = None) -> None:
        self.update({} if parameters is None else parameters)

    def update(self, parameters: Any) -> None:
        """Add or replace entries from a mapping or from pairs."""
        if isinstance(parameters, (OrderedDict, ParameterDict)):
            items = list(parameters.items())
        elif isinstance(parameters, Mapping):
            items = [(name, parameters[name]) for name in sorted(parameters)]
        else:
            items = [(name, value) for name, value in parameters]
        self._put(items)

    def __getitem__(self, name: str) -> Any:
        entries = dict(self._items())
        if name not in entries:
            raise KeyError(f"ParameterDict: no entry {name!r}; it has {list(entries)}.")
        return entries[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self._put([(name, value)])

    def __delitem__(self, name: str) -> None:
        self[name]
        delattr(self, name)

    def __contains__(self, name: object) -> bool:
        return name in self.keys()

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __reversed__(self) -> Iterator[str]:
        return reversed(self.keys())

    def __or__(self, other: ParameterDict) -> ParameterDict:
        combined = self.copy()
        combined.update(other)
        return combined

    def __ior__(self, other: ParameterDict) -> ParameterDict:
        self.update(other)
        return self

    def keys(self) -> list[str]:
        """Names of the entries."""
        return [name for name, _ in self._items()]

    def values(self) -> list[Any]:
        """The parameters."""
        return [value for _, value in self._items()]

    def items(self) -> list[tuple[str, Any]]:
        """Pairs of name and parameter."""
        return self._items()

    def get(self, name: str, default: Any = None) -> Any:
        """Return an entry, or ``default`` where there is none of that name."""
        return self[name] if name in self else default

    def setdefault(self, name: str, default: Any) -> Any:
        """Return an entry, after adding ``default`` where there was none of that name."""
        if name not in self:
            self[name] = default
        return self[name]

    def pop(self, name: str) -> Any:
        """Remove an entry and return it."""
        value = self[name]
        del self[name]
        return value

    def popitem(self) -> tuple[str, Any]:
        """Remove the last entry and return it with its name."""
        if not len(self):
            raise KeyError("ParameterDict: it is empty.")
        name = self.keys()[-1]
        return name, self.pop(name)

    def clear(self) -> None:
        """Remove all entries."""
        self._rebuild([])

    def copy(self) -> ParameterDict:
        """Return a new container with the same parameters."""
        return ParameterDict(OrderedDict(self._items()))

    def _type_name(self, dtype: str) -> str:
        return f"torch.{self._NAMES[dtype]}Tensor" if dtype in self._NAMES else f"torch.{dtype}"
