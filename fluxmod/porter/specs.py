"""What each attribute of a module is, as something that can be built in Flax."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from . import leaves, paths
from .bases import OWN
from .constructors import ANY
from .leaves import Leaf
from .partition import is_chain

__all__ = [
    "Alias",
    "Array",
    "Instance",
    "Listing",
    "Specs",
    "has_state",
    "is_set_late",
    "is_spec",
    "is_within_itself",
    "kind_of",
    "left_out",
    "plain_tensors",
    "unspecified",
]


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
    base: Leaf | None = None  # the layer that its class extends


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


def is_spec(value: Any) -> bool:
    """Whether a value is a module: to build, or held elsewhere too."""
    return isinstance(value, (Leaf, Instance, Listing, Alias))


def is_within_itself(alias: Alias, base: str) -> bool:
    """Whether both places are in one child of ``base``, which is not there before both are."""
    ours, theirs = (paths.relative(p, base) for p in (alias.place, alias.path))
    if ours is None or theirs is None:
        return False
    return ours.partition(".")[0] == theirs.partition(".")[0]


def is_set_late(aliases: Sequence[Alias]) -> bool:
    """Whether a shared child may be None at first: who holds both places builds them as one."""
    ups = set()
    for alias in aliases:
        ours, theirs = alias.place.split("."), alias.path.split(".")
        depth = next(i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b)
        if ours[depth].isdigit():
            return True
        ups.add(len(ours) - depth)
    return len(ups) > 1


def kind_of(spec: Any) -> Any:
    """What decides whether two specs can share one line of code."""
    if isinstance(spec, Leaf):
        return ("layer", spec.name)
    if isinstance(spec, Instance):
        return ("class", id(spec.group))
    if isinstance(spec, Listing):
        return ("list", spec.kind)
    return (type(spec).__name__,)


def left_out(spec: Any) -> str | None:
    """What stands for a child that does nothing; None for one that does something."""
    if spec is None:
        return "None"
    if isinstance(spec, Leaf) and spec.name == "Identity" and not spec.given:
        return "nn.Identity()"
    if isinstance(spec, Listing) and spec.kind == "Sequential" and not spec.children:
        return "nn.Sequential()"
    return None


def unspecified(specs: list[Any]) -> Any:
    """The specs' common structure, its numbers unsaid; None where they differ in structure."""
    first = specs[0]
    if len({kind_of(s) for s in specs}) > 1:
        return None
    if isinstance(first, Leaf):
        table = {k: [s.args.get(k, ANY) for s in specs] for s in specs for k in s.args}
    elif isinstance(first, Instance):
        table = {k: [s.args[k] for s in specs] for k in first.args}
    elif isinstance(first, Listing) and len({tuple(s.children) for s in specs}) == 1:
        table = {k: [s.children[k] for s in specs] for k in first.children}
    else:
        return None
    parts: dict[str, Any] = {}
    for name, values in table.items():
        parts[name] = unspecified(values) if any(map(is_spec, values)) else ANY
        if parts[name] is None or (parts[name] is ANY and isinstance(first, Listing)):
            return None
    if isinstance(first, Leaf):
        return Leaf(first.name, parts, first.given)
    if isinstance(first, Listing):
        return Listing(first.kind, parts)
    return Instance(first.module, first.path, group=first.group, args=parts)


def plain_tensors(module: torch.nn.Module) -> list[tuple[str, torch.Tensor]]:
    """Tensors that a module holds as plain attributes, neither parameters nor buffers."""
    return [(k, v) for k, v in vars(module).items() if isinstance(v, torch.Tensor)]


class Specs:
    """Builds the specs of a whole model; shared parts appear once."""

    def __init__(
        self,
        root: torch.nn.Module,
        layers: dict[str, Leaf],
        code: set[int],
        called: set[int],
        declined: set[str],
        read: set[int],
        extends: dict[int, Leaf] | None = None,
    ) -> None:
        self.read = read  # tensors that take part, by identity
        self.declined = declined  # layers that are code because their weight is tied
        self.root = root
        self.layers = layers  # layers as the calls use them, by path
        self.code = code  # modules that need a class although they look like a container
        self.called = called
        self.extends = extends or {}  # modules whose class extends a layer, and that layer
        self.seen: dict[int, str] = {}
        self.arrays: dict[int, str] = {}
        self.owners: list[str] = [""]  # the classes around a module, by path
        self.instances: list[Instance] = []
        self.aliases: list[tuple[str, str]] = []

    def wrapped(self, module: torch.nn.Module, spec: Any) -> Instance:
        """A whole model that is one layer or container: it needs a function, not a class."""
        instance = Instance(module, "", {"model": spec}, is_function=True)
        self.instances.append(instance)
        return instance

    def of(self, module: torch.nn.Module, path: str) -> Any:
        """The spec of a module."""
        if id(module) in self.seen and path and self.is_one(module, path):
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
        chain = id(module) not in self.code and (plain or is_chain(module))
        if chain and (plain or not self.is_repeated(module)):
            kind = next(c.__name__ for c in type(module).__mro__ if c.__name__ in leaves.CONTAINERS)
            return Listing(kind, self.attributes(module, path))
        instance = Instance(module, path, base=self.extends.get(id(module)))
        self.owners.append(path)
        instance.attributes = self.attributes(module, path)
        self.owners.pop()
        if instance.base is not None:
            for name in OWN:
                instance.attributes.pop(name, None)
        self.instances.append(instance)
        return instance

    def is_repeated(self, module: torch.nn.Module) -> bool:
        """Whether a Sequential's class names a pattern: several layers, and used several times."""
        same = sum(type(other) is type(module) for other in self.root.modules())
        return same > 2 and len(module._modules) > 1

    def attributes(self, module: torch.nn.Module, path: str) -> dict[str, Any]:
        """Parameters, buffers and children in torch's order."""
        found: dict[str, Any] = {}
        for table, kind in ((module._parameters, "parameter"), (module._buffers, "buffer")):
            for name, tensor in table.items():
                if tensor is None:
                    continue
                where = f"{path}.{name}" if path else name
                if id(tensor) in self.arrays:
                    self.aliases.append((where, self.arrays[id(tensor)]))
                    found[name] = Alias(self.arrays[id(tensor)], where)
                    continue
                self.arrays[id(tensor)] = where
                kept = kind == "parameter" or name not in module._non_persistent_buffers_set
                found[name] = Array(tensor, where, kind, kept)
        for name, tensor in plain_tensors(module):
            where = f"{path}.{name}" if path else name
            if id(tensor) in self.read and id(tensor) not in self.arrays:
                self.arrays[id(tensor)] = where
                found[name] = Array(tensor, where, "buffer", persistent=False)
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
        if has_state(module):
            return True
        return any(id(m) in self.called for m in module.modules())

    def is_one(self, module: torch.nn.Module, path: str) -> bool:
        """Whether a module met again is to be shared: without state, only with another attribute.

        Within one list it would be read before the list is there.
        """
        if has_state(module):
            return True
        both = [paths.relative(p, self.owners[-1]) for p in (self.seen[id(module)], path)]
        first, second = (p and p.split(".")[0] for p in both)
        return first is not None and first != second and not first.isdigit()


def has_state(module: torch.nn.Module) -> bool:
    """Whether it matters that a module is one and the same in two places."""
    return any(True for _ in module.parameters()) or any(True for _ in module.buffers())
