"""What each attribute of a module is, as something that can be built in Flax."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from . import leaves
from .leaves import Leaf
from .partition import is_chain

__all__ = ["Alias", "Array", "Instance", "Listing", "Specs"]


@dataclass(eq=False)
class Instance:
    """A module that becomes an instance of a generated class."""

    module: torch.nn.Module
    path: str
    attributes: dict[str, Any] = field(default_factory=dict)
    bodies: list[Any] = field(default_factory=list)
    group: Any = None
    args: dict[str, Any] = field(default_factory=dict)
    is_function: bool = False


@dataclass(eq=False)
class Listing:
    """A Sequential, ModuleList, ModuleDict, ParameterList or ParameterDict."""

    kind: str
    children: dict[str, Any]

    @property
    def named(self) -> bool:
        """Whether the children have names of their own."""
        return list(self.children) != [str(i) for i in range(len(self.children))]


@dataclass(eq=False)
class Array:
    """A parameter or buffer."""

    tensor: torch.Tensor
    path: str
    kind: str
    persistent: bool = True


@dataclass(frozen=True)
class Alias:
    """A module or parameter that is held elsewhere too."""

    path: str
    place: str = ""


class Specs:
    """Builds the specs of a whole model; shared parts appear once."""

    def __init__(
        self,
        root: torch.nn.Module,
        layers: dict[str, Leaf],
        code: set[int],
        called: set[int],
        declined: set[str],
        states: frozenset[int] = frozenset(),
    ) -> None:
        self.states = states  # tensors that are read
        self.declined = declined  # layers that are code because their weight is tied
        self.root = root
        self.layers = layers  # layers as the calls use them, by path
        self.code = code  # modules that need a class although they look like a container
        self.called = called
        self.seen: dict[int, str] = {}
        self.arrays: dict[int, str] = {}
        self.instances: list[Instance] = []
        self.aliases: list[tuple[str, str]] = []

    def wrapped(self, module: torch.nn.Module, spec: Any) -> Instance:
        """A whole model that is one layer or container: it needs a function, not a class."""
        instance = Instance(module, "", {"model": spec}, is_function=True)
        self.instances.append(instance)
        return instance

    def of(self, module: torch.nn.Module, path: str) -> Any:
        """The spec of a module."""
        if id(module) in self.seen and path and _has_state(module):
            self.aliases.append((path, self.seen[id(module)]))
            return Alias(self.seen[id(module)], path)
        self.seen[id(module)] = path
        leaf = None
        if path not in self.declined:
            leaf = self.layers.get(path) or leaves.match(module)
        if leaf is not None:
            for name, tensor in module.named_parameters():
                here = f"{path}.{name}" if path else name
                if self.arrays.setdefault(id(tensor), here) != here:
                    self.aliases.append((here, self.arrays[id(tensor)]))
            return leaf
        kind = type(module).__name__
        plain = kind in leaves.CONTAINERS and type(module).__module__.startswith("torch.nn")
        if id(module) not in self.code and (plain or is_chain(module)):
            kind = next(c.__name__ for c in type(module).__mro__ if c.__name__ in leaves.CONTAINERS)
            return Listing(kind, self.attributes(module, path))
        instance = Instance(module, path)
        instance.attributes = self.attributes(module, path)
        self.instances.append(instance)
        return instance

    def attributes(self, module: torch.nn.Module, path: str) -> dict[str, Any]:
        """Parameters, buffers and children in torch's order."""
        found: dict[str, Any] = {}
        plain = {
            name: t
            for name, t in vars(module).items()
            if isinstance(t, torch.Tensor) and t.numel() > leaves.SMALL and id(t) in self.states
        }
        tables = ((module._parameters, "parameter"), (module._buffers, "buffer"), (plain, "plain"))
        for table, kind in tables:
            for name, tensor in table.items():
                if tensor is None:
                    continue
                where = f"{path}.{name}" if path else name
                if id(tensor) in self.arrays:
                    self.aliases.append((where, self.arrays[id(tensor)]))
                    found[name] = Alias(self.arrays[id(tensor)], where)
                    continue
                self.arrays[id(tensor)] = where
                kept = kind == "parameter" or (
                    kind == "buffer" and name not in module._non_persistent_buffers_set
                )
                found[name] = Array(tensor, where, kind, kept)
        in_list = isinstance(
            module, (torch.nn.ModuleList, torch.nn.Sequential, torch.nn.ModuleDict)
        )
        for name, child in module._modules.items():
            if child is None:
                continue
            if not in_list and not self.is_needed(child):
                continue
            found[name] = self.of(child, f"{path}.{name}" if path else name)
        return found

    def is_needed(self, module: torch.nn.Module) -> bool:
        """Whether a module is called, or holds anything that a state_dict has."""
        if _has_state(module):
            return True
        return any(id(m) in self.called for m in module.modules())


def _has_state(module: torch.nn.Module) -> bool:
    """Whether it matters that a module is one and the same in two places."""
    return any(True for _ in module.parameters()) or any(True for _ in module.buffers())
