"""Replacements that a user supplies: a function for an operator, an NNX class for a module."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import torch
from flax import nnx

__all__ = ["Overrides", "active", "resolve", "using"]


@dataclass(frozen=True)
class Overrides:
    """What stands in for operators, by name, and for modules, by identity."""

    operators: dict[str, Any] = field(default_factory=dict)
    modules: dict[int, type[nnx.Module]] = field(default_factory=dict)

    def operator(self, target: str) -> Any:
        """The function for an operator, named with or without its overload; None without one."""
        return self.operators.get(target) or self.operators.get(target.rpartition(".")[0])

    def imports(self, text: str) -> list[str]:
        """The import lines of those replacements that a text uses."""
        names: dict[str, set[str]] = {}
        for each in [*self.operators.values(), *self.modules.values()]:
            if re.search(rf"\b{each.__name__}\(", text):
                names.setdefault(each.__module__, set()).add(each.__name__)
        return [f"from {place} import {', '.join(sorted(of))}" for place, of in names.items()]


_ACTIVE: ContextVar[Overrides] = ContextVar("overrides", default=Overrides())  # noqa: B039 - frozen


def active() -> Overrides:
    """The replacements of the port that runs now."""
    return _ACTIVE.get()


@contextmanager
def using(overrides: Overrides) -> Iterator[None]:
    """Make replacements known to everything below."""
    token = _ACTIVE.set(overrides)
    try:
        yield
    finally:
        _ACTIVE.reset(token)


def resolve(given: Mapping[Any, Any], root: torch.nn.Module) -> Overrides:
    """Find what each key names in a model, and check each replacement; all faults at once.

    Raises:
        ValueError: keys that name nothing, replacements that no file could import.
    """
    operators: dict[str, Any] = {}
    modules: dict[int, type[nnx.Module]] = {}
    faults: list[str] = []
    paths = dict(root.named_modules(remove_duplicate=False))
    for key, value in given.items():
        try:
            made = _imported(value)
            if isinstance(key, str) and "::" not in key and ":" in key:
                key = _imported(key)
            if isinstance(key, type) or key in paths:
                chosen = [m for m in paths.values() if type(m) is key] or [paths.get(key)]
                if chosen == [None]:
                    raise ValueError(f"the model has no module of class {key.__qualname__}")
                if not (inspect.isclass(made) and issubclass(made, nnx.Module)):
                    raise ValueError(f"expected a class of nnx.Module, got {made!r}")
                modules |= dict.fromkeys(map(id, chosen), made)
            elif isinstance(key, str) and ("::" in key or "." in key):
                operators[key.replace("::", ".")] = made
            else:
                raise ValueError("neither a module's path or class nor an operator such as ns::op")
        except (ValueError, ImportError, AttributeError) as error:
            shown = key.__qualname__ if isinstance(key, type) else key
            faults.append(f"  {shown}: {error}")
    if faults:
        raise ValueError("\n".join(["porter.Options: overrides that cannot be used:", *faults]))
    return Overrides(operators, modules)


def _imported(value: Any) -> Any:
    """A replacement, looked up where the written file will import it from."""
    if isinstance(value, str):
        place, _, name = value.rpartition(":" if ":" in value else ".")
    elif callable(value):
        place, name = value.__module__, value.__qualname__
    else:
        raise ValueError(f"expected a function, a class or a dotted name, got {value!r}")
    found: Any = import_module(place)
    if isinstance(value, str):
        return getattr(found, name)
    if vars(found).get(name) is not value:
        raise ValueError(
            f"{place}.{name} is nothing that the written file can import; define it at the top of "
            "a module"
        )
    return value


def arguments(cls: type[nnx.Module], module: torch.nn.Module) -> dict[str, Any]:
    """Constructor arguments of a replacement, read from the torch module's attributes.

    Raises:
        ValueError: an argument without default is no attribute of the module.
    """
    found: dict[str, Any] = {}
    parameters = list(inspect.signature(cls.__init__).parameters.values())[1:]
    for parameter in parameters:
        if parameter.name == "rngs" or parameter.kind in (
            inspect.Parameter.VAR_KEYWORD,
            inspect.Parameter.VAR_POSITIONAL,
        ):
            continue
        if hasattr(module, parameter.name):
            found[parameter.name] = getattr(module, parameter.name)
        elif parameter.default is inspect.Parameter.empty:
            raise ValueError(
                f"port: {cls.__name__}.__init__ needs {parameter.name!r}, and "
                f"{type(module).__name__} has no attribute of that name. Give it a default, or "
                "keep the value on the torch module."
            )
    return found
