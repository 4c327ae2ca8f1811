"""torch's module habits on Flax models: named_parameters, state_dict, freezing, counting."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from flax import nnx

from fluxmod._errors import ConvertError
from fluxmod._paths import is_within, nearest

from ._apply import apply, to_torch
from ._plan import plan
from ._slots import Slot, slots

__all__ = [
    "IncompatibleKeys",
    "freeze",
    "load_state_dict",
    "named_parameters",
    "parameter_count",
    "state_dict",
    "unfreeze",
]


class IncompatibleKeys(NamedTuple):
    """What ``load_state_dict(strict=False)`` could not pair, as in torch."""

    missing_keys: list[str]
    unexpected_keys: list[str]


def named_parameters(model: Any, *, remove_duplicate: bool = True) -> Iterator[tuple[str, Any]]:
    """Yield ``(torch name, Variable)`` for every parameter, in torch's order.

    Frozen parameters are listed too. The Variable has Flax's layout; ``state_dict`` gives torch's.
    A stack's Variable holds the parameters of all layers and is listed once: ``blocks.*.weight``.

    >>> from fluxmod import nn
    >>> [name for name, _ in named_parameters(nn.Linear(2, 3, rngs=nnx.Rngs(0)))]
    ['weight', 'bias']

    Source: torch.nn.Module.named_parameters.
    """
    seen: set[int] = set()
    for slot in slots(model):
        if not slot.is_parameter or (
            id(slot.variable) in seen and (remove_duplicate or slot.index)
        ):
            continue
        seen.add(id(slot.variable))
        yield slot.name, slot.variable


def parameter_count(model: Any, *, trainable_only: bool = False) -> int:
    """Count parameters, each tied one once; torch's ``sum(p.numel() for p in parameters())``.

    Works on models of both frameworks.

    >>> from fluxmod import nn
    >>> parameter_count(nn.Linear(2, 3, rngs=nnx.Rngs(0)))
    9
    """
    if _is_torch(model):
        return sum(p.numel() for p in model.parameters() if p.requires_grad or not trainable_only)
    variables = (variable for _, variable in named_parameters(model))
    return sum(
        int(np.prod(variable.get_value().shape))
        for variable in variables
        if variable.get_metadata("requires_grad", True) or not trainable_only
    )


def state_dict(model: nnx.Module) -> dict[str, np.ndarray]:
    """Return parameters and persistent buffers under torch's keys, in torch's layouts and order.

    >>> from fluxmod import nn
    >>> list(state_dict(nn.BatchNorm1d(2)))
    ['weight', 'bias', 'running_mean', 'running_var', 'num_batches_tracked']

    Source: torch.nn.Module.state_dict.
    """
    return to_torch(model)


def load_state_dict(
    model: nnx.Module,
    state_dict: Mapping[str, Any],
    strict: bool = True,
    assign: bool = False,
) -> IncompatibleKeys:
    """Load torch-named arrays into a Flax model, in place.

    Args:
        strict: every key must pair up. Otherwise the keys that do are loaded and the others
            returned; shapes and dtypes must fit in either case.
        assign: the model takes the arrays' dtypes; otherwise they must be its own.

    Raises:
        UnmatchedKeysError, LayoutError, DtypeError: everything wrong; the model is unchanged.

    >>> from fluxmod import nn
    >>> layer = nn.Linear(2, 3, rngs=nnx.Rngs(0))
    >>> load_state_dict(layer, {"bias": np.zeros(3, np.float32)}, strict=False).missing_keys
    ['weight']

    Source: torch.nn.Module.load_state_dict.
    """
    work = plan(state_dict, model, assign=assign)
    everything = () if strict else ("*",)
    work.raise_if_incomplete(allow_missing=everything, allow_unexpected=everything)
    apply(work)
    return IncompatibleKeys(list(work.missing), list(work.unexpected))


def freeze(model: Any, *paths: str) -> list[str]:
    """Stop training the parameters at or below ``paths`` (all of them when none is given).

    One call for models of both frameworks: torch parameters get ``requires_grad=False``, Flax
    parameters the same as metadata, which ``nn.is_trainable`` reads. They stay listed.

    Returns:
        The names of the frozen parameters.

    Raises:
        ConvertError: a path names no parameter; nothing is frozen then.

    >>> from fluxmod import nn
    >>> net = nn.Sequential(nn.Linear(2, 3, rngs=nnx.Rngs(0)), nn.Linear(3, 1, rngs=nnx.Rngs(1)))
    >>> freeze(net, "0")
    ['0.weight', '0.bias']
    """
    return _set_requires_grad(model, paths, value=False)


def unfreeze(model: Any, *paths: str) -> list[str]:
    """Train the parameters at or below ``paths`` again; the reverse of ``freeze``."""
    return _set_requires_grad(model, paths, value=True)


def _set_requires_grad(model: Any, paths: tuple[str, ...], *, value: bool) -> list[str]:
    named: list[tuple[tuple[str, ...], Any]]
    if _is_torch(model):
        named = [((name,), p) for name, p in model.named_parameters(remove_duplicate=False)]
    else:
        named = [((s.key, s.path), s.variable) for s in slots(model) if s.is_parameter]
        _whole_stacks(model, paths)
    wanted = paths or ("",)
    known = [name for names, _ in named for name in names]
    unknown = [path for path in wanted if not any(is_within(name, path) for name in known)]
    if unknown:
        prefixes = {name.rsplit(".", i)[0] for name in known for i in range(1, 6)} | set(known)
        raise ConvertError(
            "; ".join(
                f"freeze: no parameter at or below {path!r} in {type(model).__name__}"
                f" (close to {nearest(path, prefixes)})"
                for path in unknown
            )
            + ". Nothing was changed."
        )
    changed = []
    for names, parameter in named:
        if any(is_within(name, path) for name in names for path in wanted):
            changed.append(names[0])
            if _is_torch(model):
                parameter.requires_grad_(value)
            else:
                parameter.set_metadata(requires_grad=value)
    return changed


def _whole_stacks(model: nnx.Module, paths: tuple[str, ...]) -> None:
    """Refuse a part of a stack: its layers share one Variable, which is trained or not."""
    hit: dict[int, list[tuple[Slot, bool]]] = {}
    for slot in slots(model):
        if slot.is_parameter and slot.index:
            inside = any(is_within(name, path) for name in (slot.key, slot.path) for path in paths)
            hit.setdefault(id(slot.variable), []).append((slot, inside))
    parts = [found for found in hit.values() if len({inside for _, inside in found}) > 1]
    if parts and paths:
        names = ", ".join(slot.key for slot, inside in parts[0] if inside)
        raise ConvertError(
            f"freeze: {names} is a part of {parts[0][0][0].path}, which holds {len(parts[0])} "
            "layers in one array. Freeze all of them, or port without scan. Nothing was changed."
        )


def _is_torch(model: Any) -> bool:
    """Whether this is a torch module, told by what it offers."""
    return hasattr(model, "named_parameters") and hasattr(model, "requires_grad_")


def trainable_slots(model: nnx.Module) -> list[Slot]:
    """Parameters that are trained, each once, in torch's order: an optimizer's ``params``."""
    seen: set[Any] = set()
    chosen = []
    for slot in slots(model):
        trained = slot.is_parameter and slot.variable.get_metadata("requires_grad", True)
        if trained and slot.place not in seen:
            seen.add(slot.place)
            chosen.append(slot)
    return chosen
