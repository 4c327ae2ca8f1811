"""An optimizer's parameters in both frameworks, side by side."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax
from flax import nnx

from fluxmod import nn
from fluxmod._errors import ConvertError, UnmatchedKeysError
from fluxmod.optim import OptimizerState
from fluxmod.optim._family import FAMILIES, Family

from ._plan import Problem
from ._slots import Slot, slots
from ._torch_groups import Entry, TorchOptimizer, differences

__all__ = ["Pairing", "Params", "Part", "is_part", "parts_of", "path_text"]


class Params:
    """The trained parameters of a model: their pytree, and the slot behind each of its paths."""

    def __init__(self, model: nnx.Module) -> None:
        self.state = nnx.state(model, nn.is_trainable, graph=True)
        self.by_key: dict[str, Slot] = {}
        first: dict[int, Slot] = {}
        for slot in slots(model):
            if slot.is_parameter:
                self.by_key[slot.key] = slot
                first.setdefault(id(slot.variable), slot)
        at = {id(variable): ".".join(map(str, p)) for p, variable in nnx.to_flat_state(self.state)}
        # in torch's order, which is not the order of the pytree
        self.slots = {at[key]: slot for key, slot in first.items() if key in at}
        self._at = at

    def path(self, key: str) -> str | None:
        """Return the path of a torch name, None where it is frozen or unknown."""
        slot = self.by_key.get(key)
        return None if slot is None else self._at.get(id(slot.variable))


@dataclass(frozen=True, slots=True)
class Part:
    """One ``OptimizerState`` within the state of a transformation, and the paths it covers."""

    state: OptimizerState
    paths: tuple[str, ...]

    @property
    def family(self) -> Family:
        """What holds for the optimizer whatever its settings are."""
        return FAMILIES[self.state.settings.family]

    @property
    def entry_names(self) -> tuple[str, ...]:
        """What torch keeps per parameter, in torch's order; nothing for plain SGD."""
        slots = self.state.settings.slots
        return ("step", *slots) if self.family.keeps_step else slots

    def is_scalar(self, name: str) -> bool:
        """Whether torch keeps one number per parameter under this name."""
        return name in self.family.scalars


def is_part(node: Any) -> bool:
    """Whether a node of an optimizer state is one of ours."""
    return isinstance(node, OptimizerState)


def path_text(path: Any) -> str:
    """Turn a key path into our dotted path; the step into a Variable is left out."""
    inside = path[-1:] == (jax.tree_util.GetAttrKey("value"),)
    return jax.tree_util.keystr(path[:-1] if inside else path, simple=True, separator=".")


def parts_of(opt_state: Any, params: Params) -> list[Part]:
    """Find our states in the state of a transformation.

    Raises:
        ConvertError: there is none, or which parameters one of them covers cannot be told.
    """
    states = [node for node in jax.tree.leaves(opt_state, is_leaf=is_part) if is_part(node)]
    if not states:
        raise ConvertError(
            "convert: the transformation holds no optimizer of fluxmod.optim, so torch's names for "
            f"its state are not known. Build it from one of {', '.join(FAMILIES)}."
        )
    covered = [_covered(state) for state in states]
    rest = set(params.slots) - {path for paths in covered for path in paths or ()}
    if sum(paths is None for paths in covered) > 1:
        raise ConvertError(
            "convert: several of the optimizers keep no state per parameter, so which parameters "
            "each of them trains cannot be told. Merge them into one."
        )
    return [
        Part(state, tuple(p for p in params.slots if p in (rest if paths is None else paths)))
        for state, paths in zip(states, covered, strict=True)
    ]


def _covered(state: OptimizerState) -> set[str] | None:
    """Paths that have arrays in a state; None where it keeps none for any parameter."""
    if not state.slots:
        return None
    tree = next(iter(state.slots.values()))
    return {path_text(path) for path, _ in jax.tree_util.tree_flatten_with_path(tree)[0]}


class Pairing:
    """A torch optimizer's entries beside the parameters and states they belong to."""

    def __init__(self, theirs: TorchOptimizer, params: Params, parts: list[Part]) -> None:
        self.theirs, self.params, self.parts = theirs, params, parts
        self.entries: dict[str, Entry] = {}
        for entry in theirs.entries:
            if (path := params.path(entry.key)) is not None:
                self.entries.setdefault(path, entry)

    def of(self, part: Part) -> list[Entry]:
        """Return the entries that a part covers."""
        return [self.entries[path] for path in part.paths if path in self.entries]

    def key_problems(self) -> Iterator[Problem]:
        """Names that do not pair up one to one."""
        for entry in self.theirs.entries:
            path = self.params.path(entry.key)
            if entry.key not in self.params.by_key:
                yield _key(entry.key, f"{entry.key} is no parameter of the Flax model")
            elif path is not None and self.entries[path] is not entry:
                other = self.entries[path].key
                yield _key(entry.key, f"{entry.key} and {other} are one parameter, listed twice")
        for path, slot in self.params.slots.items():
            if path not in self.entries:
                text = f"{slot.key} is trained in Flax, and the torch optimizer does not have it"
                yield _key(slot.key, text)

    def settings_problems(self, part: Part, count: int | None) -> Iterator[Problem]:
        """Settings that differ, group by group; ``count`` as ``differences`` takes it."""
        settings, classes = part.state.settings, self.theirs.classes
        if classes and settings.family not in classes:
            text = f"the optimizer is torch's {classes[0]} and {settings.family} here"
            yield Problem("optimizer", ConvertError, text)
            return
        for group in sorted({entry.group for entry in self.of(part)}):
            for text in differences(self.theirs.groups[group], settings, count):
                yield Problem("param_groups", ConvertError, f"group {group}: {text}")


def _key(key: str, text: str) -> Problem:
    return Problem(key, UnmatchedKeysError, text)
