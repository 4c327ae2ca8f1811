"""The state of LBFGS: torch has vectors of all parameters, Flax a tree for each of them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fluxmod._errors import DtypeError, LayoutError, UnmatchedKeysError
from fluxmod.optim import OptimizerState
from fluxmod.optim._layout import path_text

from ._device import put_like
from ._pairing import Pairing, Part
from ._plan import Problem
from ._source import as_numpy, is_array

__all__ = ["lbfgs_entries", "lbfgs_problems", "lbfgs_state"]

_VECTORS = ("d", "prev_flat_grad")
_HISTORIES = ("old_dirs", "old_stps")
_NUMBERS = ("func_evals", "n_iter", "t", "H_diag", "prev_loss")
_SCRATCH = "al"
"""What torch keeps only so as not to allocate it again."""
_KNOWN = {*_VECTORS, *_HISTORIES, *_NUMBERS, "ro", _SCRATCH}


def _entry(pairs: Pairing) -> dict[str, Any]:
    """Torch's one state, which is under the first parameter."""
    return dict(pairs.theirs.entries[0].state) if pairs.theirs.entries else {}


def lbfgs_problems(pairs: Pairing, part: Part) -> Iterator[Problem]:
    """What does not fit: unknown names, lengths, dtypes, more history than there is place."""
    entry = _entry(pairs)
    for name in sorted(set(entry) - _KNOWN):
        yield Problem(name, UnmatchedKeysError, f"the state has the unknown {name!r} in torch")
    sizes = [math.prod(pairs.params.by_key[e.key].torch_shape) for e in pairs.theirs.entries]
    room = part.state.settings["history_size"]
    for name in _HISTORIES:
        if len(entry.get(name, ())) > room:
            text = f"{name} has {len(entry[name])} entries, and history_size is {room}"
            yield Problem(name, LayoutError, text)
    vectors = [(n, entry[n]) for n in _VECTORS if n in entry]
    vectors += [(n, vector) for n in _HISTORIES for vector in entry.get(n, ())]
    dtype = str(part.state.scalars["t"].dtype)
    for name, vector in vectors:
        if tuple(vector.shape) != (sum(sizes),):
            text = f"{name} has shape {tuple(vector.shape)}, the parameters ({sum(sizes)},)"
            yield Problem(name, LayoutError, text)
        if (got := str(vector.dtype).removeprefix("torch.")) != dtype:
            yield Problem(name, DtypeError, f"{name} is {got}, the parameters {dtype}")


def lbfgs_state(pairs: Pairing, state: OptimizerState) -> OptimizerState:
    """Return the state with torch's values in place of the zeros."""
    entry = _entry(pairs)
    if "n_iter" not in entry:
        return state
    scalars = dict(state.scalars)
    for name in _NUMBERS:
        if name in entry:
            scalars[name] = jnp.asarray(_number(entry[name]), scalars[name].dtype)
    ro = [_number(r) for r in entry.get("ro", ())]
    scalars["ro"] = scalars["ro"].at[: len(ro)].set(jnp.asarray(ro, scalars["ro"].dtype))
    scalars["held"] = jnp.asarray(len(ro), scalars["held"].dtype)
    slots = dict(state.slots)
    for name in _VECTORS:
        if name in entry:
            slots[name] = _filled(slots[name], _split(pairs, entry[name]))
    for name in _HISTORIES:
        rows = [_split(pairs, vector) for vector in entry.get(name, ())]
        held = {path: np.stack([row[path] for row in rows]) for path in (rows[0] if rows else {})}
        slots[name] = _filled(slots[name], held)
    return replace(state, slots=slots, scalars=scalars)


def lbfgs_entries(pairs: Pairing, part: Part) -> dict[int, dict[str, Any]]:
    """Return torch's state by the number of the first parameter; empty before the first step."""
    scalars = jax.device_get(part.state.scalars)
    if not int(scalars["func_evals"]):
        return {}
    entry: dict[str, Any] = {name: int(scalars[name]) for name in ("func_evals", "n_iter")}
    if entry["n_iter"]:
        held, t = int(scalars["held"]), float(scalars["t"])
        lr = float(part.state.settings.lr_at(part.state.count))
        entry |= {
            "d": _joined(pairs, part, "d"),
            "t": lr if scalars["t"].dtype.type(lr) == t else t,
            "old_dirs": [_joined(pairs, part, "old_dirs", i) for i in range(held)],
            "old_stps": [_joined(pairs, part, "old_stps", i) for i in range(held)],
            "ro": [np.array(r) for r in scalars["ro"][:held]],
            "H_diag": np.array(scalars["H_diag"]) if held else 1,
            "prev_flat_grad": _joined(pairs, part, "prev_flat_grad"),
            "prev_loss": float(scalars["prev_loss"]),
        }
    return {pairs.theirs.entries[0].number: entry}


def _number(value: Any) -> Any:
    return as_numpy(value).item() if is_array(value) else value


def _split(pairs: Pairing, vector: Any) -> dict[str, np.ndarray]:
    """Cut a vector into the parameters, by path, in Flax's layout; frozen ones are left out."""
    flat, found, start = as_numpy(vector), {}, 0
    for entry in pairs.theirs.entries:
        slot, path = pairs.params.by_key[entry.key], pairs.params.path(entry.key)
        end = start + math.prod(slot.torch_shape)
        if path is not None:
            found[path] = slot.leaf.to_flax(flat[start:end].reshape(slot.torch_shape))
        start = end
    return found


def _filled(tree: Any, by_path: dict[str, np.ndarray]) -> Any:
    """Put arrays in place of zeros; of a history, the first entries."""

    def value(path: Any, zeros: jax.Array) -> jax.Array:
        array = by_path.get(path_text(path))
        if array is None:
            return zeros
        full = np.zeros(zeros.shape, zeros.dtype)
        full[tuple(slice(size) for size in array.shape)] = array
        return put_like(full, zeros)

    return jax.tree_util.tree_map_with_path(value, tree)


def _joined(pairs: Pairing, part: Part, name: str, index: int | None = None) -> np.ndarray:
    """One vector of all parameters in torch's order and layout; zero where Flax has them frozen."""
    pieces = []
    for entry in pairs.theirs.entries:
        slot, path = pairs.params.by_key[entry.key], pairs.params.path(entry.key)
        if path is None:
            pieces.append(np.zeros(math.prod(slot.torch_shape), part.state.scalars["t"].dtype))
            continue
        array = part.arrays[path][name]
        array = np.asarray(jax.device_get(array if index is None else array[index]))
        pieces.append(slot.leaf.to_torch(array).reshape(-1))
    return np.concatenate(pieces)
