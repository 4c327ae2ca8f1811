"""Optimizer state between torch.optim and fluxmod.optim, by the weight rules of the parameters.

The parameters of an optimizer are ``nnx.state(model, nn.is_trainable)``; frozen ones are no part
of it and have no state.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from fluxmod._errors import ConvertError, DtypeError, LayoutError, UnmatchedKeysError
from fluxmod._paths import matches
from fluxmod.optim import OptimizerState
from fluxmod.optim._family import is_scheduled
from fluxmod.optim._layout import path_text

from ._device import put_like
from ._lbfgs import lbfgs_entries, lbfgs_problems, lbfgs_state
from ._pairing import Pairing, Params, Part, is_part, parts_of
from ._plan import Problem
from ._source import as_numpy, is_array
from ._torch import to_tensor
from ._torch_groups import read_optimizer

__all__ = ["load_optimizer_state_dict", "optimizer_to_flax", "optimizer_to_torch"]


def optimizer_to_flax(
    source: Any,
    flax_model: nnx.Module,
    tx: optax.GradientTransformation,
    *,
    names: Sequence[str] | None = None,
    torch_model: Any = None,
    step: int | None = None,
    allow_missing: Iterable[str] = (),
    allow_unexpected: Iterable[str] = (),
    covered: Sequence[set[str]] | None = None,
) -> Any:
    """Return ``tx.init(params)`` with the state of a torch optimizer in it, bit for bit.

    Args:
        source: a torch optimizer, or its ``state_dict()``.
        flax_model: the model that holds the converted weights; what it freezes stays out.
        tx: built from ``fluxmod.optim``, alone or inside ``optax.chain``, ``optax.partition`` and
            the like; its settings must be torch's.
        names: torch names of the optimizer's parameters, in the order of its groups.
        torch_model: the module whose parameters a live optimizer holds; names are then told by
            identity. Without either, torch's own ``param_names`` or the order decides.
        step: steps made so far, for schedules over optimizers that do not count (SGD).
        allow_missing: patterns of parameters without state in torch, though others have some;
            theirs starts at zero, at the common step count.
        allow_unexpected: patterns of frozen or unknown parameters whose state in torch is dropped.
        covered: the Flax paths that each optimizer in ``tx`` trains, where they keep no state that
            tells.

    Raises:
        ConvertError: settings, step counts, names, shapes or dtypes differ; all that do.

    >>> from fluxmod import nn, optim
    >>> layer = nn.Linear(2, 3, bias=False, rngs=nnx.Rngs(0))
    >>> group = {"lr": 0.1, "momentum": 0.9, "dampening": 0, "weight_decay": 0, "params": [0]}
    >>> state = {0: {"momentum_buffer": np.ones((3, 2), np.float32)}}
    >>> tx = optim.SGD(lr=0.1, momentum=0.9)
    >>> made = optimizer_to_flax({"state": state, "param_groups": [group]}, layer, tx)
    >>> made.slots["momentum_buffer"]["kernel"].shape
    (2, 3)
    """
    theirs = read_optimizer(source, flax_model, names, torch_model)
    params = Params(flax_model)
    template = tx.init(params.state)
    pairs = Pairing(theirs, params, parts_of(template, params, covered))
    problems = [p for p in _unexpected(pairs) if not matches(p.key, tuple(allow_unexpected))]
    problems += [p for p in _missing(pairs) if not matches(p.key, tuple(allow_missing))]
    for part in pairs.parts:
        problems += pairs.settings_problems(part, _count(pairs, part, step))
        problems += pairs.axes_problems(part)
        problems += _step_problems(pairs, part, step)
        problems += _part_problems(pairs, part)
    _raise(problems)
    filled = iter([_filled(pairs, part, step) for part in pairs.parts])
    return jax.tree.map(lambda x: next(filled) if is_part(x) else x, template, is_leaf=is_part)


def optimizer_to_torch(
    opt_state: Any,
    flax_model: nnx.Module,
    tx: optax.GradientTransformation,
    *,
    like: Any = None,
    names: Sequence[str] | None = None,
    torch_model: Any = None,
    allow_unexpected: Iterable[str] = (),
) -> dict[str, Any]:
    """Return the ``state_dict()`` that torch's optimizer would have, with numpy arrays.

    ``load_optimizer_state_dict`` puts it into a torch optimizer.

    Args:
        opt_state: state of ``tx`` for ``nnx.state(flax_model, nn.is_trainable)``.
        like: the torch optimizer, or its ``state_dict()``, whose groups and numbering to follow.
            Parameters that Flax freezes keep the state they have there. Without it there is one
            group per optimizer in ``tx``, numbered in the order of the trained parameters.
        names: torch names of the parameters of ``like``, in the order of its groups.
        torch_model: the module whose parameters a live ``like`` holds.
        allow_unexpected: patterns of what ``opt_state`` holds beside the optimizers' own state,
            by its path, as an error lists it; it is dropped.

    Raises:
        ConvertError: settings, names or structure differ; all that do.

    >>> from fluxmod import nn, optim
    >>> layer, tx = nn.Linear(2, 3, rngs=nnx.Rngs(0)), optim.Adam(lr=0.1)
    >>> content = optimizer_to_torch(tx.init(nnx.state(layer, nn.is_trainable)), layer, tx)
    >>> content["param_groups"][0]["lr"], content["param_groups"][0]["params"], content["state"]
    (0.1, [0, 1], {})
    """
    params = Params(flax_model)
    parts = parts_of(opt_state, params)
    if like is None:
        like, names = _blank(parts, params)
    pairs = Pairing(read_optimizer(like, flax_model, names, torch_model), params, parts)
    problems = [
        *_structure_problems(opt_state, tx.init(params.state), tuple(allow_unexpected)),
        *pairs.key_problems(),
        *(p for part in parts for p in pairs.settings_problems(part, None)),
        *(p for part in parts for p in pairs.axes_problems(part)),
    ]
    _raise(problems)
    return _state_dict(pairs)


def load_optimizer_state_dict(torch_optimizer: Any, state_dict: Mapping[str, Any]) -> None:
    """Load what ``optimizer_to_torch`` returned into a live torch optimizer.

    The arrays become tensors, bit for bit, and ``torch_optimizer.load_state_dict`` takes them.
    """
    state = {
        number: {name: _tensors(value) for name, value in entry.items()}
        for number, entry in state_dict["state"].items()
    }
    torch_optimizer.load_state_dict({**state_dict, "state": state})


def _tensors(value: Any) -> Any:
    """Arrays as tensors, those in a list too; numbers stay."""
    if isinstance(value, list):
        return [_tensors(v) for v in value]
    return to_tensor(value) if is_array(value) else value


def _raise(problems: list[Problem]) -> None:
    """Raise one error for all problems; names that do not pair up decide its kind."""
    if not problems:
        return
    kinds = [problem.kind for problem in problems]
    kind = UnmatchedKeysError if UnmatchedKeysError in kinds else kinds[0]
    lines = "\n".join(f"  {text}" for text in dict.fromkeys(p.text for p in problems))
    raise kind(f"convert: the optimizer's state was not converted.\n{lines}")


def _unexpected(pairs: Pairing) -> Iterator[Problem]:
    """What torch has and Flax has no place for."""
    trained = {slot.key for slot in pairs.params.slots.values()}
    yield from (p for p in pairs.key_problems() if p.key not in trained)
    for entry in pairs.theirs.entries:
        known = entry.key in pairs.params.by_key and not pairs.whole
        if known and pairs.params.path(entry.key) is None and entry.state:
            text = f"{entry.key} has state in torch and is frozen in the Flax model"
            yield Problem(entry.key, UnmatchedKeysError, text)


def _missing(pairs: Pairing) -> Iterator[Problem]:
    """What Flax needs and torch does not have."""
    trained = {slot.key for slot in pairs.params.slots.values()}
    yield from (p for p in pairs.key_problems() if p.key in trained)
    for part in pairs.parts:
        entries = pairs.of(part)
        if pairs.whole or not part.keeps_state or not any(entry.state for entry in entries):
            continue
        for entry in entries:
            if not entry.state:
                text = (
                    f"{entry.key} has no state in torch, though others have: it never had a "
                    "gradient. Freeze it in the Flax model if it takes no part, or allow_missing it"
                )
                yield Problem(entry.key, UnmatchedKeysError, text)


def _steps(pairs: Pairing, part: Part) -> dict[str, float]:
    """Torch's step counts by parameter."""
    found = {entry.key: entry.state.get("step") for entry in pairs.of(part)}
    return {
        key: float(as_numpy(step) if is_array(step) else step)
        for key, step in found.items()
        if step is not None
    }


def _count(pairs: Pairing, part: Part, step: int | None) -> int | None:
    """Steps made; None where torch does not say, ``step`` was not given, and it matters."""
    if step is not None:
        return step
    if part.family.keeps_step:
        return int(max(_steps(pairs, part).values(), default=0))
    if callable(part.state.settings["lr"]):
        return None
    return int(any(entry.state for entry in pairs.of(part)))


def _step_problems(pairs: Pairing, part: Part, step: int | None) -> Iterator[Problem]:
    if _count(pairs, part, step) is None:
        text = (
            "torch does not count the steps of this optimizer, and ours has a schedule: pass step="
        )
        yield Problem("step", ConvertError, text)
    if not part.family.keeps_step:
        return
    values = _steps(pairs, part)
    if step is not None:
        values["step="] = float(step)
    if len(set(values.values())) > 1:
        shown = ", ".join(f"{key} {value:g}" for key, value in values.items())
        text = f"the parameters have made different numbers of steps: {shown}"
        yield Problem("step", ConvertError, text)
    elif not all(value.is_integer() and value >= 0 for value in values.values()):
        yield Problem("step", ConvertError, f"the step counts are no whole numbers: {values}")


def _part_problems(pairs: Pairing, part: Part) -> Iterator[Problem]:
    """Arrays that do not fit, of the state of each parameter or of the one that LBFGS has."""
    if part.family.rule is None:
        yield from lbfgs_problems(pairs, part)
    else:
        for path in part.paths:
            yield from _array_problems(pairs, part, path)


def _array_problems(pairs: Pairing, part: Part, path: str) -> Iterator[Problem]:
    entry, slot = pairs.entries.get(path), pairs.params.slots[path]
    if entry is None or not entry.state:
        return
    wanted = part.entry_names(path)
    for name in sorted(set(wanted) ^ set(entry.state)):
        has = "lacks" if name in wanted else "has the unknown"
        yield Problem(slot.key, UnmatchedKeysError, f"{slot.key} {has} {name!r} in torch")
    for name, ours in part.arrays.get(path, {}).items():
        if name not in entry.state:
            continue
        array = entry.state[name]
        shape, dtype = tuple(array.shape), str(array.dtype).removeprefix("torch.")
        scalar = part.is_scalar(name)
        if shape != (wanted_shape := () if scalar else slot.leaf.shape_in_torch(ours.shape)):
            text = f"{slot.key}: {name} has shape {shape}, expected {wanted_shape}"
            yield Problem(slot.key, LayoutError, text)
        if dtype != (wanted_dtype := "float32" if scalar else slot.dtype):
            text = f"{slot.key}: {name} is {dtype}, expected {wanted_dtype}"
            yield Problem(slot.key, DtypeError, text)


def _filled(pairs: Pairing, part: Part, step: int | None) -> OptimizerState:
    """The state with torch's values in place of the zeros."""

    params = pairs.params

    def one(name: str, path: str, zeros: Any) -> Any:
        entry, slot = pairs.entries.get(path), params.slots[path]
        if entry is None or not entry.state:
            return zeros
        array = as_numpy(entry.state[name])
        return np.array(array if part.is_scalar(name) else slot.leaf.to_flax(array), order="C")

    def fill(name: str, tree: Any) -> Any:
        def value(path: Any, zeros: jax.Array) -> jax.Array:
            layers = {
                place: one(name, place, z) for place, z in params.spread(path_text(path), zeros)
            }
            if len(layers) == 1 or not zeros.ndim:
                array = next(iter(layers.values()))
            else:
                array = np.array(zeros)
                for place, layer in layers.items():
                    array[params.slots[place].index] = layer
            return put_like(array, zeros)

        return jax.tree_util.tree_map_with_path(value, tree)

    count = jnp.asarray(_count(pairs, part, step), part.state.count.dtype)
    if part.family.rule is None:
        return lbfgs_state(pairs, replace(part.state, count=count))
    slots = {name: fill(name, tree) for name, tree in part.state.slots.items()}
    return replace(part.state, count=count, slots=slots)


def _blank(parts: list[Part], params: Params) -> tuple[dict[str, Any], list[str]]:
    """A state_dict without state: one group per optimizer, in the order of the parameters."""
    groups: list[dict[str, Any]] = []
    names: list[str] = []
    for part in parts:
        numbers = list(range(len(names), len(names) + len(part.paths)))
        settings = _group_settings(part)
        groups.append({**settings, **part.family.inert, "params": numbers})
        names += [params.slots[path].key for path in part.paths]
    return {"state": {}, "param_groups": groups}, names


def _group_settings(part: Part) -> dict[str, Any]:
    """Settings as torch's group has them: of a schedule, the rate of the step to come."""
    settings = part.state.settings
    now = dict(settings.at(part.state.count).items)
    floats = {name: jax.tree.map(float, now[name]) for name, v in settings.items if is_scheduled(v)}
    return {**now, **floats, "lr": float(now["lr"])}


def _structure_problems(opt_state: Any, fresh: Any, allowed: tuple[str, ...]) -> Iterator[Problem]:
    """What is not the state of these parameters under this transformation, or not torch's."""
    want, got = _leaves(fresh), _leaves(opt_state)
    differing = [f"{path} {what}" for path, what in got.items() if want.get(path) != what]
    differing += [f"{path} is missing" for path in want if path not in got]
    if differing:
        text = f"opt_state belongs to another model or transformation: {', '.join(differing[:10])}"
        yield Problem("opt_state", UnmatchedKeysError, text)
    others = jax.tree_util.tree_flatten_with_path(opt_state, is_leaf=is_part)[0]
    for path in (path_text(path) for path, leaf in others if not is_part(leaf)):
        if not matches(path, allowed):
            text = f"opt_state holds {path!r}, for which torch has no place; allow_unexpected it"
            yield Problem(path, UnmatchedKeysError, text)


def _leaves(opt_state: Any) -> dict[str, str]:
    leaves = jax.tree_util.tree_leaves_with_path(opt_state)
    return {path_text(path): f"{leaf.dtype}{leaf.shape}" for path, leaf in leaves}


def _state_dict(pairs: Pairing) -> dict[str, Any]:
    """Torch's state_dict: our values, and for frozen parameters what torch had."""
    state: dict[int, dict[str, Any]] = {
        entry.number: {n: as_numpy(v) if is_array(v) else v for n, v in entry.state.items()}
        for entry in pairs.theirs.entries
        if entry.state and not pairs.whole and pairs.params.path(entry.key) is None
    }
    settings: dict[int, dict[str, Any]] = {}
    for part in pairs.parts:
        settings |= {entry.group: _group_settings(part) for entry in pairs.of(part)}
        started = int(part.state.count) or part.family.keeps_at_start
        if part.family.rule is None:
            state |= lbfgs_entries(pairs, part)
        elif started and part.keeps_state:
            state |= _entries(pairs, part)
    groups = [
        {**group, **{k: v for k, v in settings.get(i, {}).items() if k in group}}
        for i, group in enumerate(pairs.theirs.groups)
    ]
    return {"state": dict(sorted(state.items())), "param_groups": groups}


def _entries(pairs: Pairing, part: Part) -> dict[int, dict[str, Any]]:
    found: dict[int, dict[str, Any]] = {}
    for path in part.paths:
        entry = found.setdefault(pairs.entries[path].number, {})
        if part.family.keeps_step:
            count = int(part.state.count)
            entry["step"] = count if part.family.int_step else np.array(count, np.float32)
        for name, leaf in part.arrays.get(path, {}).items():
            value, rule = np.asarray(jax.device_get(leaf)), pairs.params.slots[path].leaf
            value = value if part.is_scalar(name) else rule.to_torch(value)
            entry[name] = np.array(value, order="C")
    return found
