"""Checkpoints of a training run: complete or not there, and checked when they are read.

A checkpoint is a folder named by its step. Orbax writes it under a temporary name and renames it
when everything is in it, so a process that is killed leaves the checkpoints before it untouched.
Beside the arrays stands a description of each (shape, dtype, checksum), by which a checkpoint is
compared with the trainer before anything is changed, and its content once it is read.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from fluxmod._errors import CheckpointError

from ._digest import digests
from ._sharding import is_key
from ._trainer import Trainer

__all__ = ["Checkpoints"]

_FORMAT = 1
_BYTES = "__bytes__"
_TRASH = ".deleted-"
_UNFINISHED = ".orbax-checkpoint-tmp"


class Checkpoints:
    """The checkpoints of one run, in one folder.

    Args:
        folder: made by the first ``save``.
        keep: how many of the newest to keep; None keeps all.

    Raises:
        ValueError: ``keep`` below 1.

    >>> import tempfile
    >>> from flax import nnx
    >>> from fluxmod import nn, optim
    >>> trainer = Trainer(nn.Linear(2, 1, rngs=nnx.Rngs(0)), optim.SGD(), lambda m, b: m(b).sum())
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     checkpoints = Checkpoints(folder)
    ...     checkpoints.save(trainer, extra={"epoch": 3})
    ...     checkpoints.latest, checkpoints.restore(trainer)
    (0, {'epoch': 3})
    """

    def __init__(self, folder: str | os.PathLike[str], *, keep: int | None = 3) -> None:
        if keep is not None and keep < 1:
            raise ValueError(f"Checkpoints: keep must be at least 1, or None for all, got {keep}.")
        self.folder = Path(folder).absolute()
        self.keep = keep
        self._orbax = ocp.Checkpointer(ocp.CompositeCheckpointHandler())

    def steps(self) -> list[int]:
        """Return the steps of the complete checkpoints, in ascending order."""
        if not self.folder.is_dir():
            return []
        return sorted(int(p.name) for p in self.folder.iterdir() if p.name.isdecimal())

    @property
    def latest(self) -> int | None:
        """The newest step, None where there is no checkpoint."""
        steps = self.steps()
        return steps[-1] if steps else None

    def save(self, trainer: Trainer, *, extra: Any = None) -> None:
        """Write the whole training state as the checkpoint of ``trainer.steps_done``.

        Args:
            extra: anything else to resume with, such as a data iterator's state: what JSON holds,
                and bytes.

        Raises:
            CheckpointError: there is one of this step already, ``extra`` would not come back as
                it is, or the folder cannot be written.
        """
        self._sweep()
        save(self._orbax, self.folder, trainer.steps_done, trainer.state(), extra)
        self._drop_old()

    def restore(self, trainer: Trainer, step: int | None = None) -> Any:
        """Put a checkpoint, by default the newest, into the trainer and return its ``extra``.

        Raises:
            CheckpointError: there is none, it is damaged, or it is of another model, optimizer or
                dtype; the trainer is unchanged.
        """
        if step is None and (step := self.latest) is None:
            raise CheckpointError(
                f"Checkpoints: there is no checkpoint in {self.folder} to restore."
            )
        arrays, extra = restore(self._orbax, self.folder, step, trainer.state())
        trainer.load_state(arrays, steps_done=step)
        return extra

    def _drop_old(self) -> None:
        """Remove what exceeds ``keep``; renamed first, so that nothing half-removed has a step's
        name."""
        if jax.process_index() == 0 and self.keep is not None:
            for step in self.steps()[: -self.keep]:
                os.rename(self.folder / str(step), self.folder / f"{_TRASH}{step}")
            self._sweep()

    def _sweep(self) -> None:
        """Remove what killed processes left; while one writes, no other may."""
        if jax.process_index() == 0 and self.folder.is_dir():
            for path in self.folder.iterdir():
                if path.name.startswith(_TRASH) or path.name.endswith(_UNFINISHED):
                    shutil.rmtree(path, ignore_errors=True)


def save(orbax: ocp.Checkpointer, folder: Path, step: int, state: Any, extra: Any) -> None:
    """Write named arrays and ``extra`` as the checkpoint of a step."""
    arrays = _plain(state)
    described = {
        name: [list(value.shape), str(state[name].dtype), digest]
        for (name, value), digest in zip(arrays.items(), digests(arrays).values(), strict=True)
    }
    meta = {"format": _FORMAT, "step": step, "arrays": described, "extra": _to_json(extra)}
    stored = {name: value for name, value in arrays.items() if value.size}  # orbax takes no others
    if (folder / str(step)).exists():
        raise CheckpointError(
            f"Checkpoints: {folder / str(step)} exists. Save each step once, or use another folder."
        )
    try:
        orbax.save(
            folder / str(step),
            args=ocp.args.Composite(
                arrays=ocp.args.StandardSave(stored),
                meta=ocp.args.JsonSave({"content": meta, "sha256": _hash(meta)}),
            ),
        )
    except OSError as error:
        raise CheckpointError(f"Checkpoints: cannot write {folder / str(step)}: {error}") from error


def restore(
    orbax: ocp.Checkpointer, folder: Path, step: int, like: Any
) -> tuple[dict[str, Any], Any]:
    """Read the checkpoint of a step, in the form and places of the arrays in ``like``."""
    path = folder / str(step)
    if not path.is_dir():
        raise CheckpointError(
            f"Checkpoints: there is no step {step} in {folder}, only "
            f"{sorted(int(p.name) for p in folder.glob('*') if p.name.isdecimal())}."
        )
    meta = _read_meta(orbax, path)
    _compare(path, meta["arrays"], like)
    want = _plain(like)
    stored = {name: _abstract(value) for name, value in want.items() if value.size}
    try:
        got = dict(orbax.restore(path, args=_items(arrays=ocp.args.StandardRestore(stored))).arrays)
    except Exception as error:  # whatever orbax and tensorstore raise on damaged files
        raise _damaged(path, f"its arrays cannot be read: {_first_line(error)}") from error
    arrays = {name: got.get(name, value) for name, value in want.items()}
    found = digests(arrays)
    broken = [name for name, (*_, digest) in meta["arrays"].items() if found[name] != digest]
    if broken:
        raise _damaged(path, f"the checksums of {broken[:10]} do not match")
    return {name: _as(like[name], value) for name, value in arrays.items()}, _from_json(
        meta["extra"]
    )


def _read_meta(orbax: ocp.Checkpointer, path: Path) -> dict[str, Any]:
    try:
        read = orbax.restore(path, args=_items(meta=ocp.args.JsonRestore())).meta
        content, digest = read["content"], read["sha256"]
    except Exception as error:  # as above; a missing part shows in several ways
        raise _damaged(path, f"its description cannot be read: {_first_line(error)}") from error
    if _hash(content) != digest:
        raise _damaged(path, "its description was changed")
    if content["format"] != _FORMAT:
        raise CheckpointError(
            f"Checkpoints: {path} has format {content['format']}, and this version reads {_FORMAT}."
        )
    return dict(content)


def _compare(path: Path, described: dict[str, Any], like: Any) -> None:
    """Compare names, shapes and dtypes with the trainer's; everything that differs is listed."""
    problems = [f"  missing     {name}" for name in like if name not in described]
    problems += [f"  unexpected  {name}" for name in described if name not in like]
    for name, array in _plain(like).items():
        shape, dtype = described.get(name, [list(array.shape), str(like[name].dtype)])[:2]
        if (tuple(shape), dtype) != (tuple(array.shape), str(like[name].dtype)):
            problems.append(
                f"  differs     {name}: {dtype}{tuple(shape)} in the checkpoint, "
                f"{like[name].dtype}{tuple(array.shape)} in the trainer"
            )
    if problems:
        raise CheckpointError(
            f"Checkpoints: {path} is of another model or optimizer; nothing was restored.\n"
            + "\n".join(problems)
        )


def _items(**items: Any) -> Any:
    return ocp.args.Composite(**items)


def _plain(state: Any) -> dict[str, Any]:
    """Random keys as the integers they consist of; everything else as it is."""
    return {k: jax.random.key_data(v) if is_key(v) else v for k, v in state.items()}


def _as(like: Any, value: Any) -> Any:
    if not is_key(like):
        return value
    return jax.random.wrap_key_data(value, impl=jax.random.key_impl(like))


def _abstract(value: Any) -> Any:
    if not isinstance(value, jax.Array):
        return np.zeros(value.shape, value.dtype)
    return jax.ShapeDtypeStruct(value.shape, value.dtype, sharding=value.sharding)


def _to_json(value: Any) -> Any:
    """Encode ``extra``; an error where it would not come back equal."""
    encoded = _encode(value)
    try:
        same = _from_json(json.loads(json.dumps(encoded))) == value
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"Checkpoints: extra is no JSON: {error}.") from error
    if not same:
        raise CheckpointError(
            "Checkpoints: extra would not come back as it is. JSON has lists and no tuples, text "
            "and no numbers as keys, and no NaN; bytes are fine."
        )
    return encoded


def _encode(value: Any) -> Any:
    if isinstance(value, bytes):
        return {_BYTES: base64.b64encode(value).decode("ascii")}
    if isinstance(value, dict):
        return {key: _encode(item) for key, item in value.items()}
    return [_encode(item) for item in value] if isinstance(value, list) else value


def _from_json(value: Any) -> Any:
    if isinstance(value, dict):
        if set(value) == {_BYTES}:
            return base64.b64decode(value[_BYTES])
        return {key: _from_json(item) for key, item in value.items()}
    return [_from_json(item) for item in value] if isinstance(value, list) else value


def _hash(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _damaged(path: Path, what: str) -> CheckpointError:
    return CheckpointError(
        f"Checkpoints: {path} is damaged: {what}. The trainer is unchanged; restore an earlier "
        "step."
    )


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"
