"""Opening weight files: one file, shards with an index, or a folder."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fluxmod._errors import FileFormatError

from ._safetensors import read_safetensors
from ._source import Source, Weight, read

__all__ = ["open_weights"]

SAFETENSORS = ".safetensors"
PICKLES = (".pt", ".pth", ".bin", ".ckpt")
INDEX = ".index.json"

_KINDS = (
    "Known are .safetensors, the .pt, .pth, .bin or .ckpt files of torch.save, the .index.json of "
    "a sharded checkpoint, and a folder that holds one of these."
)


def open_weights(path: str | os.PathLike[str], *, entry: str | None = None) -> Source:
    """Open a weight file or folder; arrays are read when they are asked for.

    Safetensors files are read without torch. Files of ``torch.save`` need torch and are read
    without ever running code from them. In a folder safetensors are preferred.

    Args:
        path: a ``.safetensors``, ``.pt``, ``.pth``, ``.bin`` or ``.ckpt`` file, the
            ``.index.json`` of a sharded checkpoint, or a folder.
        entry: the part that holds the weights, for a torch file that holds more than weights.

    Raises:
        FileNotFoundError: nothing has that path.
        FileFormatError: the file is damaged, holds code, lacks shards, or is of no known kind.
        MissingExtraError: a torch file, and torch is not installed.

    >>> import tempfile
    >>> from flax import nnx
    >>> from fluxmod import convert, nn
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = convert.save(nn.Linear(2, 3, rngs=nnx.Rngs(0)), folder + "/model.safetensors")
    ...     {key: weight.shape for key, weight in open_weights(path).items()}
    {'bias': (3,), 'weight': (3, 2)}
    """
    path = Path(path)
    place = path if path.exists() else _index_of(path)
    if place is None:
        raise FileNotFoundError(f"convert: {path} does not exist.{_beside(path)}")
    if place.is_dir():
        place = _pick(place)
    if entry is not None and not place.name.endswith(PICKLES):
        raise FileFormatError(
            f"convert: entry={entry!r} names a part of a torch file, and {place} is none."
        )
    return Source(_read(place, entry), str(path))


def _read(path: Path, entry: str | None = None) -> Mapping[str, Weight]:
    _refuse_pointers(path)
    if path.name.endswith(INDEX):
        return _read_shards(path)
    if path.suffix == SAFETENSORS:
        return read_safetensors(path)
    if path.suffix in PICKLES:
        from ._torch import load_pt

        return read(load_pt(path, entry))
    raise FileFormatError(f"convert: {path} is of no known kind. {_KINDS}")


def _refuse_pointers(path: Path) -> None:
    """Empty files and the text that git-lfs leaves in place of a file get errors of their own."""
    with open(path, "rb") as file:
        start = file.read(64)
    if not start:
        raise FileFormatError(f"convert: {path} is empty; fetch it again.")
    if start.startswith(b"version https://git-lfs"):
        raise FileFormatError(
            f"convert: {path} is a pointer that git-lfs left, not the weights. Run: git lfs pull"
        )


# --- shards -------------------------------------------------------------------------------------


def _index_of(path: Path) -> Path | None:
    """The index beside a file that was written as shards."""
    index = path.with_name(path.name + INDEX)
    return index if index.exists() else None


def _read_shards(index: Path) -> dict[str, Weight]:
    names = _weight_map(index)
    files = {name: index.parent / name for name in sorted(set(names.values()))}
    absent = [name for name, file in files.items() if not file.is_file()]
    if absent:
        raise FileFormatError(
            f"convert: {index} names {len(files)} files, and these are missing: "
            f"{', '.join(absent)}. Fetch them into {index.parent}."
        )
    shards = {name: _read(file) for name, file in files.items()}
    problems = [f"{key} is not in {name}" for key, name in names.items() if key not in shards[name]]
    problems += [
        f"{key} of {name} is not in the index"
        for name, shard in shards.items()
        for key in shard
        if names.get(key) != name
    ]
    if problems:
        raise FileFormatError(
            f"convert: {index} does not fit its files: {'; '.join(problems[:20])}"
            f"{' ...' if len(problems) > 20 else ''}. They belong to different checkpoints."
        )
    return {key: shards[name][key] for key, name in names.items()}


def _weight_map(index: Path) -> dict[str, str]:
    try:
        content: Any = json.loads(index.read_text(encoding="utf-8"))
        names = dict(content["weight_map"])
    except (ValueError, KeyError, TypeError) as error:
        raise FileFormatError(
            f"convert: {index} is no index of a sharded checkpoint: expected JSON with a "
            f"'weight_map' from names to files ({type(error).__name__}: {error})."
        ) from error
    kinds = (SAFETENSORS, *PICKLES)
    bad = sorted(
        {repr(n) for n in names.values() if not _is_plain(n) or not str(n).endswith(kinds)}
    )
    if bad:
        raise FileFormatError(
            f"convert: {index} must name weight files of its own folder, and names "
            f"{', '.join(bad[:10])}."
        )
    return names


def _is_plain(name: Any) -> bool:
    """A file name alone: an index must not lead out of its folder."""
    return isinstance(name, str) and Path(name).name == name and name not in ("", ".", "..")


# --- folders ------------------------------------------------------------------------------------


def _pick(folder: Path) -> Path:
    """The file of a folder that holds the weights; safetensors before torch files."""
    names = sorted(p.name for p in folder.iterdir() if p.is_file())
    for kinds, usual in (((SAFETENSORS,), "model"), (PICKLES, "pytorch_model")):
        whole = [n for n in names if n.endswith(kinds)]
        indices = [n for n in names if n.endswith(tuple(kind + INDEX for kind in kinds))]
        for group in ([n for n in whole if Path(n).stem == usual], indices, whole):
            if len(group) == 1:
                return folder / group[0]
        if whole or indices:
            raise FileFormatError(
                f"convert: {folder} holds several weight files ({', '.join(whole + indices)}) and "
                "none says how they belong together. Give the path of one, or of an index."
            )
    found = ", ".join(names[:20]) or "nothing"
    raise FileFormatError(f"convert: {folder} holds no weights, but {found}. {_KINDS}")


def _beside(path: Path) -> str:
    """What lies where a missing file should be, for the error message."""
    if not path.parent.is_dir():
        return f" Neither does the folder {path.parent}."
    kinds = (SAFETENSORS, *PICKLES, INDEX)
    near = sorted(p.name for p in path.parent.iterdir() if p.name.endswith(kinds))
    return f" Beside it are {', '.join(near[:10])}." if near else ""
