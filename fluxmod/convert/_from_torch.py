"""A whole optimizer from a live one of torch: transformation, groups, schedule and state."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import optax
from flax import nnx

from fluxmod import optim
from fluxmod._errors import ConvertError
from fluxmod.optim import lr_scheduler
from fluxmod.optim._family import FAMILIES
from fluxmod.optim._layout import path_text

from ._optimizer import optimizer_to_flax
from ._pairing import Params
from ._schedulers import scheduler_from_torch
from ._torch_groups import plain, read_optimizer

__all__ = ["optimizer_from_torch"]


def optimizer_from_torch(
    torch_optimizer: Any,
    flax_model: nnx.Module,
    *,
    scheduler: Any = None,
    names: Sequence[str] | None = None,
    torch_model: Any = None,
    step: int | None = None,
    allow_missing: Iterable[str] = (),
    allow_unexpected: Iterable[str] = (),
) -> tuple[optax.GradientTransformation, Any]:
    """Build the twin of a live torch optimizer, its settings read from it, and its state.

    Parameter groups that differ become the parts of an ``optax.partition``.

    Args:
        torch_optimizer: any optimizer of ``torch.optim``.
        flax_model: the model that holds the converted weights; what it freezes stays out.
        scheduler: torch's scheduler of the optimizer, stepped once per step; its twin becomes the
            ``lr`` and, where it cycles the momentum, that too. Or a scheduler of
            ``fluxmod.optim.lr_scheduler``, for all groups.
        names, torch_model, allow_missing, allow_unexpected: as in ``optimizer_to_flax``.
        step: steps made so far; the scheduler's unless given.

    Returns:
        The transformation, and its state for ``nnx.state(flax_model, nn.is_trainable)``.

    Raises:
        ConvertError: no live optimizer of torch; settings, names or state that do not fit.

    >>> import torch
    >>> from fluxmod import nn
    >>> theirs = torch.nn.Linear(2, 3)
    >>> optimizer = torch.optim.AdamW(theirs.parameters(), lr=0.1, amsgrad=True)
    >>> tx, state = optimizer_from_torch(optimizer, nn.Linear(2, 3, rngs=nnx.Rngs(0)))
    >>> state.settings.family, state.settings["lr"], state.settings["amsgrad"]
    ('AdamW', 0.1, True)
    """
    theirs = read_optimizer(torch_optimizer, flax_model, names, torch_model)
    name = next((name for name in theirs.classes if name in FAMILIES), None)
    if name is None:
        raise ConvertError(
            f"convert: expected a live optimizer of torch.optim ({', '.join(FAMILIES)}), got "
            f"{type(torch_optimizer).__name__}. From a state_dict() alone use optimizer_to_flax."
        )
    params = Params(flax_model)
    places = {entry.key: params.path(entry.key) for entry in theirs.entries}
    of = {path: e.group for e in theirs.entries if (path := places[e.key]) is not None}
    told = {"torch_axes": params.axes} if FAMILIES[name].layout else {}
    made = {
        group: {**_settings(name, theirs.groups[group], _schedule(scheduler, group)), **told}
        for group in sorted({*of.values()} or {0})
    }
    tx, covered = _transformation(name, made, of, params)
    if step is None and hasattr(scheduler, "optimizer"):
        step = lr_scheduler.count_of(scheduler.state_dict())
    state = optimizer_to_flax(
        torch_optimizer,
        flax_model,
        tx,
        names=[entry.key for entry in theirs.entries],
        step=step,
        allow_missing=allow_missing,
        allow_unexpected=allow_unexpected,
        covered=covered,
    )
    return tx, state


def _schedule(scheduler: Any, group: int) -> Any:
    if scheduler is None or isinstance(scheduler, lr_scheduler.LRScheduler):
        return scheduler
    made = scheduler_from_torch(scheduler, group)
    if not callable(made):
        raise ConvertError(
            f"convert: {type(made).__name__} is no function of the step. Build the optimizer "
            "without it and put scheduler_from_torch(scheduler) behind it with optax.chain."
        )
    return made


def _settings(name: str, group: Mapping[str, Any], schedule: Any) -> dict[str, Any]:
    """The arguments of our optimizer, from a group of torch's."""
    known = inspect.signature(getattr(optim, name)).parameters
    found = {key: plain(value) for key, value in group.items() if key in known}
    if schedule is None:
        return found
    found["lr"] = schedule
    if getattr(schedule, "cycle_momentum", False):
        if "betas" in found:
            found["betas"] = (schedule.momentum, *found["betas"][1:])
        else:
            found["momentum"] = schedule.momentum
    return found


def _transformation(
    name: str, made: Mapping[int, dict[str, Any]], of: Mapping[str, int], params: Params
) -> tuple[optax.GradientTransformation, list[set[str]]]:
    """One optimizer, or one for each set of groups with equal settings; and what each trains."""
    first: dict[int, int] = {}
    for group, settings in made.items():
        first[group] = next((g for g in first.values() if made[g] == settings), group)
    label = {path: first[group] for path, group in of.items()}
    chosen = sorted(set(first.values()))
    covered = [{path for path, group in label.items() if group == g} for g in chosen]
    parts = {g: getattr(optim, name)(**made[g]) for g in chosen}
    if len(parts) == 1:
        return parts[chosen[0]], covered

    whole: dict[str, int] = {}
    for path, layers in params.layers.items():
        groups = {label[layer] for layer in layers if layer in label}
        if len(groups) > 1:
            raise ConvertError(
                f"convert: the layers of {path} are one array and have different settings in "
                "torch's groups. Port the model without scan."
            )
        whole.update((path, group) for group in groups)

    def labels(tree: Any) -> Any:
        return jax.tree_util.tree_map_with_path(
            lambda path, _: whole.get(path_text(path), chosen[0]), tree
        )

    return optax.partition(parts, labels), covered
