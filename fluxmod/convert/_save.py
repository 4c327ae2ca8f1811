"""Writing weight files whole or not at all, and describing them."""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from flax import nnx

from fluxmod._errors import ConvertError

from ._files import INDEX, PICKLES, SAFETENSORS, open_weights
from ._safetensors import check_writable, write_safetensors
from ._slots import slots
from ._source import Source, Weight, read

__all__ = ["describe", "save"]

Write = Callable[[Path], None]

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_UNITS |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}


def save(
    source: Any,
    path: str | os.PathLike[str],
    *,
    max_shard_size: int | str | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """Write weights under torch's names and in torch's layouts, for either framework to read.

    A file appears whole or not at all. A tied weight is written under each of its names, so that
    torch's strict ``load_state_dict`` accepts the file; in a ``.pt`` file it is stored once.

    Args:
        source: a Flax model, or whatever ``to_flax`` takes: a mapping, a torch module, a path.
        path: ends in ``.safetensors``, or in ``.pt``, ``.pth`` or ``.bin`` for ``torch.save``.
        max_shard_size: bytes, or a text such as "5GB": more than that is split into
            ``<name>-00001-of-0000N.safetensors`` with ``<name>.safetensors.index.json``.
        metadata: texts to store in safetensors files.

    Returns:
        The path to open: ``path``, or the index of the shards.

    Raises:
        ConvertError: the ending is not known, or an option does not fit it.
        DtypeError: safetensors cannot hold a dtype.

    >>> import tempfile
    >>> from fluxmod import nn
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(nn.Linear(2, 3, rngs=nnx.Rngs(0)), folder + "/model.safetensors").name
    'model.safetensors'
    """
    path = Path(path)
    weights = _from_model(source) if isinstance(source, nnx.Module) else read(source)
    limit = None if max_shard_size is None else _bytes(max_shard_size)
    if path.suffix == SAFETENSORS:
        check_writable(weights)
        return _save_safetensors(weights, path, limit, {"format": "pt", **(metadata or {})})
    if path.suffix not in PICKLES:
        raise ConvertError(
            f"save: {path} should end in .safetensors, or in .pt, .pth or .bin for torch.save."
        )
    if limit is not None or metadata:
        raise ConvertError("save: max_shard_size and metadata are for .safetensors files.")
    from ._torch import save_pt

    arrays = _load_once(weights)
    _put([(path, partial(save_pt, arrays))])
    return path


def _from_model(model: nnx.Module) -> Source:
    """A Flax model as a source whose ties are known."""
    weights = {
        s.key: Weight(s.torch_shape, s.dtype, s.to_numpy, (s.place, s.leaf.perm))
        for s in slots(model)
    }
    return Source(weights, type(model).__name__)


def _load_once(weights: Source) -> dict[str, np.ndarray]:
    """All arrays; the names of one tensor get one array."""
    known: dict[Any, np.ndarray] = {}
    arrays = {}
    for key, weight in weights.items():
        place = key if weight.identity is None else (weight.identity,)
        if place not in known:
            known[place] = weight.load()
        arrays[key] = known[place]
    return arrays


def _save_safetensors(
    weights: Source, path: Path, limit: int | None, metadata: Mapping[str, str]
) -> Path:
    shards = _shards(weights, limit)
    index = path.with_name(path.name + INDEX)
    outdated = _listed(index)
    count = len(shards)
    if count == 1:
        _put([(path, _shard_writer(weights, shards[0], metadata))])
        _remove([index, *outdated])
        return path
    names = [f"{path.stem}-{i:05d}-of-{count:05d}{path.suffix}" for i in range(1, count + 1)]
    places = [path.with_name(name) for name in names]
    writers = [_shard_writer(weights, keys, metadata) for keys in shards]
    index_writer = _index_writer(weights, dict(zip(names, shards, strict=True)))
    _put([*zip(places, writers, strict=True), (index, index_writer)])
    _remove([path, *(file for file in outdated if file not in places)])
    return index


def _shard_writer(weights: Source, keys: list[str], metadata: Mapping[str, str]) -> Write:
    def write(part: Path) -> None:
        write_safetensors({key: weights[key].load() for key in keys}, part, metadata)

    return write


def _index_writer(weights: Source, shards: Mapping[str, list[str]]) -> Write:
    place = {key: name for name, keys in shards.items() for key in keys}
    content = {
        "metadata": {"total_size": sum(map(_size, weights.values()))},
        "weight_map": {key: place[key] for key in weights},
    }
    text = json.dumps(content, indent=2) + "\n"

    def write(part: Path) -> None:
        part.write_text(text, encoding="utf-8")

    return write


def _shards(weights: Source, limit: int | None) -> list[list[str]]:
    """Keys by shard, in order; an array larger than the limit has a shard of its own."""
    shards: list[list[str]] = [[]]
    used = 0
    for key, weight in weights.items():
        size = _size(weight)
        if limit is not None and shards[-1] and used + size > limit:
            shards.append([])
            used = 0
        shards[-1].append(key)
        used += size
    return shards


def _size(weight: Weight) -> int:
    return int(np.prod(weight.shape, dtype=np.int64)) * np.dtype(weight.dtype).itemsize


def _bytes(size: int | str) -> int:
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*", str(size))
    count = int(float(match[1]) * _UNITS.get(match[2].upper(), 0)) if match else 0
    if count <= 0:
        raise ConvertError(
            f"save: max_shard_size={size!r} should be a number of bytes above 0, or a text such "
            "as '500MB' or '5GB'."
        )
    return count


# --- whole or not at all ------------------------------------------------------------------------


def _put(files: list[tuple[Path, Write]]) -> None:
    """Write all files beside their places, then move them there, the last one last.

    An index that is replaced is removed first: shards of two checkpoints are never read as one.
    """
    with ExitStack() as stack:
        parts = [(stack.enter_context(_temporary(path)), path) for path, _ in files]
        for (part, path), (_, write) in zip(parts, files, strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            part.touch()
            mode = (path if path.exists() else part).stat().st_mode
            write(part)
            os.chmod(part, mode)  # safetensors gives it to its owner alone
            with open(part, "rb+") as file:
                os.fsync(file.fileno())
        if len(files) > 1:
            files[-1][0].unlink(missing_ok=True)
        for part, path in parts:
            os.replace(part, path)


@contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    """A free name in the same folder, and so on the same disk; nothing is left of it."""
    part = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        yield part
    finally:
        part.unlink(missing_ok=True)


def _listed(index: Path) -> list[Path]:
    """Shards of an earlier save to the same path."""
    pattern = re.compile(rf"{re.escape(index.name.removesuffix(SAFETENSORS + INDEX))}-\d+-of-\d+\.")
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []
    return [index.with_name(name) for name in sorted(names) if pattern.match(name)]


def _remove(files: list[Path]) -> None:
    for file in files:
        file.unlink(missing_ok=True)


# --- describing ---------------------------------------------------------------------------------


def describe(path: str | os.PathLike[str]) -> str:
    """Return a table of a weight file or folder: key, shape, dtype, size, and the totals.

    Raises:
        FileFormatError, FileNotFoundError, MissingExtraError: as ``open_weights``.

    >>> import tempfile
    >>> from fluxmod import nn
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = save(nn.Linear(2, 3, rngs=nnx.Rngs(0)), folder + "/model.safetensors")
    ...     print(describe(path))
    key     shape   dtype    size
    bias    (3,)    float32  12 B
    weight  (3, 2)  float32  24 B
    2 arrays, 9 values, 36 B
    """
    weights = open_weights(path)
    rows = [("key", "shape", "dtype", "size")]
    rows += [(k, str(w.shape), w.dtype, _readable(_size(w))) for k, w in weights.items()]
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    lines = ["  ".join(t.ljust(n) for t, n in zip(row, widths, strict=True)) for row in rows]
    ties = sorted(key for group in weights.tied() for key in group[1:])
    once = [weight for key, weight in weights.items() if key not in ties]
    values = sum(int(np.prod(w.shape, dtype=np.int64)) for w in once)
    total = f"{len(weights)} arrays, {values:,} values, {_readable(sum(map(_size, once)))}"
    if ties:
        total += f"; stored once under several names: {', '.join(ties)}"
    return "\n".join([*(line.rstrip() for line in lines), total])


def _readable(size: int) -> str:
    """A size with its unit, as in max_shard_size.

    >>> _readable(999), _readable(123456), _readable(5 * 10**12)
    ('999 B', '123.5 KB', '5000.0 GB')
    """
    if size < 1000:
        return f"{size} B"
    unit = next(u for u in ("GB", "MB", "KB") if size >= _UNITS[u])
    return f"{size / _UNITS[unit]:.1f} {unit}"
