"""An optimizer's parameters in both frameworks, side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from flax import nnx

from fluxmod import nn
from fluxmod._errors import ConvertError, LayoutError, UnmatchedKeysError
from fluxmod.optim import OptimizerState
from fluxmod.optim._family import FAMILIES, Family
from fluxmod.optim._layout import path_text

from ._plan import Problem
from ._slots import Slot, slots
from ._torch_groups import Entry, TorchOptimizer, differences

__all__ = ["Pairing", "Params", "Part", "is_part", "parts_of", "torch_axes"]


class Params:
    """The trained parameters of a model: their pytree, and the slot behind each of its paths.

    A stack's array holds the parameters of several layers, each of which has a path of its own:
    ``blocks.attn.kernel[2]``.
    """

    def __init__(self, model: nnx.Module) -> None:
        self.state = nnx.state(model, nn.is_trainable, graph=True)
        self.by_key: dict[str, Slot] = {}
        first: dict[Any, Slot] = {}
        for slot in slots(model):
            if slot.is_parameter:
                self.by_key[slot.key] = slot
                first.setdefault(slot.place, slot)
        at = {id(variable): ".".join(map(str, p)) for p, variable in nnx.to_flat_state(self.state)}
        self._at = at
        # in torch's order, which is not the order of the pytree
        found = {self._path(slot): slot for slot in first.values()}
        self.slots = {path: slot for path, slot in found.items() if path is not None}
        self.layers: dict[str, list[str]] = {}
        for path, slot in self.slots.items():
            self.layers.setdefault(at[id(slot.variable)], []).append(path)

    @property
    def is_stacked(self) -> bool:
        """Whether some arrays hold several layers."""
        return any(slot.index for slot in self.slots.values())

    def spread(self, path: str, array: Any) -> Iterator[tuple[str, Any]]:
        """What belongs to each of the parameters that an array of the pytree holds."""
        for each in self.layers.get(path, [path]):
            index = self.slots[each].index if each in self.slots else ()
            whole = not index or not array.ndim  # one number per array is the same for all layers
            yield each, array if whole else np.asarray(jax.device_get(array))[index]

    @property
    def axes(self) -> dict[str, tuple[int, ...]]:
        """The permutations that bring parameters into torch's order, where that differs.

        Raises:
            ConvertError: some arrays hold several layers.
        """
        if self.is_stacked:
            raise _needs_layers("Optimizers that depend on the order of axes")
        rules = {path: slot.leaf for path, slot in self.slots.items()}
        return {path: leaf.inverse for path, leaf in rules.items() if leaf.perm is not None}

    def path(self, key: str) -> str | None:
        """Return the path of a torch name, None where it is frozen or unknown."""
        slot = self.by_key.get(key)
        return None if slot is None else self._path(slot)

    def _path(self, slot: Slot) -> str | None:
        path = self._at.get(id(slot.variable))
        return path if path is None or not slot.index else f"{path}{list(slot.index)}"


@dataclass(frozen=True, slots=True)
class Part:
    """One ``OptimizerState`` within the state of a transformation, and the paths it covers.

    ``arrays`` holds what the state keeps for each path, by torch's names in torch's order.
    """

    state: OptimizerState
    paths: tuple[str, ...]
    arrays: Mapping[str, Mapping[str, Any]]

    @property
    def family(self) -> Family:
        """What holds for the optimizer whatever its settings are."""
        return FAMILIES[self.state.settings.family]

    @property
    def keeps_state(self) -> bool:
        """Whether torch keeps anything per parameter; plain SGD does not."""
        return bool(self.family.keeps_step or self.state.slots)

    def entry_names(self, path: str) -> tuple[str, ...]:
        """What torch keeps for a parameter, in torch's order."""
        return (*(("step",) if self.family.keeps_step else ()), *self.arrays.get(path, ()))

    def is_scalar(self, name: str) -> bool:
        """Whether torch keeps one number per parameter under this name."""
        return name in self.family.scalars


def torch_axes(flax_model: nnx.Module) -> dict[str, tuple[int, ...]]:
    """Say how each trained parameter's axes are brought into torch's order, where that differs.

    For the optimizers that depend on it: ``optim.Muon(torch_axes=convert.torch_axes(model))``.

    >>> torch_axes(nn.Conv2d(3, 8, 5, rngs=nnx.Rngs(0)))
    {'kernel': (3, 2, 0, 1)}
    """
    return Params(flax_model).axes


def _needs_layers(who: str) -> ConvertError:
    return ConvertError(
        f"convert: {who} take each array as one parameter, and the model has stacks, whose arrays "
        "hold those of several layers. Port it without scan, or use another optimizer."
    )


def is_part(node: Any) -> bool:
    """Whether a node of an optimizer state is one of ours."""
    return isinstance(node, OptimizerState)


def parts_of(opt_state: Any, params: Params, known: Sequence[set[str]] | None = None) -> list[Part]:
    """Find our states in the state of a transformation.

    Args:
        known: the paths that each of them covers, where that is known beforehand.

    Raises:
        ConvertError: there is none, or which parameters one of them covers cannot be told.
    """
    states = [node for node in jax.tree.leaves(opt_state, is_leaf=is_part) if is_part(node)]
    if not states:
        raise ConvertError(
            "convert: the transformation holds no optimizer of fluxmod.optim, so torch's names for "
            f"its state are not known. Build it from one of {', '.join(FAMILIES)}."
        )
    families = [FAMILIES[state.settings.family] for state in states]
    if params.is_stacked and any(family.layout or family.rule is None for family in families):
        raise _needs_layers(" and ".join(state.settings.family for state in states))
    covered = [_arrays(state, params) for state in states]
    rest = [set(params.slots) - {path for arrays in covered for path in arrays or ()}] * len(states)
    if known is not None:
        rest = [set(paths) for paths in known]
    elif sum(arrays is None for arrays in covered) > 1:
        raise ConvertError(
            "convert: several of the optimizers keep no state per parameter, so which parameters "
            "each of them trains cannot be told. Merge them into one."
        )
    return [
        Part(
            state,
            tuple(p for p in params.slots if p in (others if arrays is None else arrays)),
            arrays or {},
        )
        for state, arrays, others in zip(states, covered, rest, strict=True)
    ]


def _arrays(state: OptimizerState, params: Params) -> dict[str, dict[str, Any]] | None:
    """What a state holds by path and name; None where it keeps nothing for any parameter."""
    if not state.slots:
        return None
    found: dict[str, dict[str, Any]] = {}
    for name in state.settings.slots:  # in torch's order; a pytree's is the alphabet's
        for path, array in jax.tree_util.tree_leaves_with_path(state.slots[name]):
            for place, part in params.spread(path_text(path), array):
                found.setdefault(place, {})[name] = part
    return found


class Pairing:
    """A torch optimizer's entries beside the parameters and states they belong to."""

    def __init__(self, theirs: TorchOptimizer, params: Params, parts: list[Part]) -> None:
        self.theirs, self.params, self.parts = theirs, params, parts
        self.entries: dict[str, Entry] = {}
        for entry in theirs.entries:
            if (path := params.path(entry.key)) is not None:
                self.entries.setdefault(path, entry)

    @property
    def whole(self) -> bool:
        """Whether torch keeps one state for all parameters, under the first of them (LBFGS)."""
        return any(part.family.rule is None for part in self.parts)

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

    def axes_problems(self, part: Part) -> Iterator[Problem]:
        """Parameters whose axes an optimizer was told another order of than the weight rule has."""
        told = part.state.settings.torch_axes
        for path in part.paths if part.family.layout else ():
            got, want = dict(told or ()).get(path), self.params.axes.get(path)
            if got != want:
                text = (
                    f"{path}: torch_axes says {got}, the weight rule {want}; "
                    "pass torch_axes=convert.torch_axes(model)"
                )
                yield Problem("torch_axes", LayoutError, text)


def _key(key: str, text: str) -> Problem:
    return Problem(key, UnmatchedKeysError, text)
