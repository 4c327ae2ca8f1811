"""The torch side of an optimizer: its groups, its numbering, and the names behind the numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from flax import nnx

from fluxmod._errors import ConvertError, UnmatchedKeysError
from fluxmod.optim import Settings
from fluxmod.optim._family import FAMILIES, is_scheduled

from ._habits import trainable_slots
from ._slots import Slot, slots
from ._source import is_array

__all__ = ["Entry", "TorchOptimizer", "differences", "plain", "read_optimizer"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One parameter of a torch optimizer: its number, name, group, and per-parameter state."""

    number: int
    key: str
    group: int
    state: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class TorchOptimizer:
    """What a torch optimizer holds; ``classes`` is empty where only a state_dict is known."""

    classes: tuple[str, ...]
    groups: tuple[Mapping[str, Any], ...]
    entries: tuple[Entry, ...]


def read_optimizer(
    source: Any, model: nnx.Module, names: Sequence[str] | None, torch_model: Any
) -> TorchOptimizer:
    """Read a live optimizer or its ``state_dict()`` and name its parameters.

    Raises:
        ConvertError: it is neither of these, or the names cannot be told.
    """
    live = hasattr(source, "param_groups") and hasattr(source, "state_dict")
    content = source.state_dict() if live else source
    if not isinstance(content, Mapping) or not {"state", "param_groups"} <= set(content):
        raise ConvertError(
            f"convert: expected a torch optimizer or its state_dict() with 'state' and "
            f"'param_groups', got {type(source).__name__}."
        )
    numbers = [(n, g) for g, group in enumerate(content["param_groups"]) for n in group["params"]]
    tensors = [p for group in source.param_groups for p in group["params"]] if live else None
    keys = _names(content["param_groups"], len(numbers), model, names, tensors, torch_model)
    state = content["state"]
    unknown = sorted(set(state) - {number for number, _ in numbers})
    if unknown:
        raise UnmatchedKeysError(
            f"convert: the optimizer's state has entries {unknown[:10]} that no parameter group "
            "lists; the state_dict is damaged."
        )
    return TorchOptimizer(
        classes=tuple(c.__name__ for c in type(source).__mro__) if live else (),
        groups=tuple(content["param_groups"]),
        entries=tuple(
            Entry(number, key, group, _present(state.get(number, {})))
            for (number, group), key in zip(numbers, keys, strict=True)
        ),
    )


def _present(state: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what torch lists without a value (``momentum_buffer: None``)."""
    return {name: value for name, value in state.items() if value is not None}


def _names(
    groups: Sequence[Mapping[str, Any]],
    count: int,
    model: nnx.Module,
    names: Sequence[str] | None,
    tensors: Sequence[Any] | None,
    torch_model: Any,
) -> list[str]:
    """Name the parameters: as given, by identity, as torch recorded them, or by order."""
    if names is not None:
        if len(names) != count:
            raise UnmatchedKeysError(
                f"convert: {len(names)} names were given, and the optimizer has {count} "
                "parameters. Name each one, in the order of its param_groups."
            )
        return list(names)
    if torch_model is not None and tensors is not None:
        return _by_identity(tensors, torch_model)
    if all("param_names" in group for group in groups):
        return [name for group in groups for name in group["param_names"]]
    return [slot.key for slot in _by_order(model, count)]


def _by_identity(tensors: Sequence[Any], torch_model: Any) -> list[str]:
    known = {id(p): name for name, p in torch_model.named_parameters()}
    strangers = [i for i, tensor in enumerate(tensors) if id(tensor) not in known]
    if strangers:
        raise UnmatchedKeysError(
            f"convert: the optimizer's parameters number {strangers[:10]} are no parameters of the "
            f"torch_model given ({type(torch_model).__name__}). Pass the module that the optimizer "
            "was built for, or names=[...]."
        )
    return [known[id(tensor)] for tensor in tensors]


def _by_order(model: nnx.Module, count: int) -> list[Slot]:
    """All parameters, or only the trained ones, whichever the optimizer has."""
    first: dict[Any, Slot] = {}
    for slot in slots(model):
        if slot.is_parameter:
            first.setdefault(slot.place, slot)
    every, trained = list(first.values()), trainable_slots(model)
    for chosen in (every, trained):
        if len(chosen) == count:
            return chosen
    raise UnmatchedKeysError(
        f"convert: the optimizer has {count} parameters, and {type(model).__name__} has "
        f"{len(every)}, of which {len(trained)} are trained, so their order does not tell the "
        "names. Pass torch_model=... with a live optimizer, or names=[...]."
    )


_OF_SCHEDULERS = {"max_lr", "min_lr", "swa_lr", "max_momentum", "base_momentum"}
"""What schedulers keep in the groups of their optimizer."""


def differences(group: Mapping[str, Any], settings: Settings, count: int | None) -> list[str]:
    """List how a torch parameter group differs from an optimizer's settings.

    Args:
        count: steps made, where a schedule's rate is compared with the group's; None leaves the
            rate of a schedule out.
    """
    family = FAMILIES[settings.family]
    scheduled = callable(settings["lr"])
    now = settings if count is None else settings.at(count)
    found = []
    for key, want in settings.items:
        if key not in group and key not in family.defaults:
            found.append(f"{key} is not given in torch")
            continue
        got = plain(group[key] if key in group else family.defaults[key])
        if is_scheduled(want):
            rate = None if count is None else plain(now[key])
            if rate is not None and not np.allclose(got, rate, rtol=1e-6, atol=0):
                found.append(f"{key} is {got} in torch and {rate} here at step {count}")
        elif got != want:
            found.append(f"{key} is {got} in torch and {want} here")
    if "initial_lr" in group and not scheduled:
        found.append(
            f"lr follows a scheduler in torch (initial_lr={plain(group['initial_lr'])}) and is "
            "constant here; build ours with a schedule, or remove initial_lr from the group"
        )
    known = {"params", "param_names", "initial_lr", *family.inert, *dict(settings.items)}
    known |= _OF_SCHEDULERS if scheduled else set()
    found += [
        f"{key}={value!r} is unknown here" for key, value in group.items() if key not in known
    ]
    return found


def plain(value: Any) -> Any:
    """A Python number where torch has a tensor of one element."""
    if isinstance(value, tuple | list):
        return tuple(plain(v) for v in value)
    return value.item() if is_array(value) else value
