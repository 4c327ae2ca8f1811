"""The two places where weights meet a live torch: .pt files and a module to fill."""

from __future__ import annotations

import re
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from flax import nnx

from fluxmod._errors import (
    ConvertError,
    DtypeError,
    FileFormatError,
    LayoutError,
    UnmatchedKeysError,
)
from fluxmod._optional import require

from ._apply import to_torch
from ._source import is_array

__all__ = ["into_torch", "load_pt", "save_pt", "to_tensor"]

_BITS = {
    "bfloat16": np.int16,
    "float8_e4m3fn": np.uint8,
    "float8_e4m3fnuz": np.uint8,
    "float8_e5m2": np.uint8,
    "float8_e5m2fnuz": np.uint8,
    "float8_e8m0fnu": np.uint8,
}
"""dtypes that torch does not take from numpy, and the integers that carry their bits."""


def to_tensor(array: np.ndarray) -> Any:
    """Copy a numpy array into a torch tensor, bit for bit, bfloat16 and float8 included.

    >>> to_tensor(np.ones(2, "bfloat16")).dtype
    torch.bfloat16
    """
    torch = require("torch", extra="torch", needed_for="making torch tensors")
    array = np.array(array, order="C")
    bits = _BITS.get(str(array.dtype))
    if bits is None:
        return torch.from_numpy(array)
    return torch.from_numpy(array.view(bits)).view(getattr(torch, str(array.dtype)))


def load_pt(path: Path, entry: str | None = None) -> Mapping[str, Any]:
    """Read the state_dict of a file that ``torch.save`` wrote; code in it is never run.

    Args:
        entry: name of the part that holds the weights, where the file holds more than weights.

    Raises:
        FileFormatError: the file is damaged, holds code, or holds more than weights.
        MissingExtraError: torch is not installed.
    """
    torch = require("torch", extra="torch", needed_for=f"reading {path}")
    content = _unpickle(torch, path)
    parts: dict[str | None, Mapping[str, Any]] = dict(_state_dicts(content))
    if entry in parts and entry:
        return parts[entry]
    if entry is None and ("" in parts or content == {}):
        return parts.get("", {})
    found = ", ".join(f"{name!r} ({len(part)} arrays)" for name, part in parts.items() if name)
    asked = "" if entry is None else f"entry={entry!r} is not one of its parts. "
    raise FileFormatError(
        f"convert: {path} does not hold a state_dict alone, but {_describe(content)}. {asked}"
        + (
            f"These parts look like one: {found}. Name it: "
            f"convert.open_weights(path, entry={next(name for name in parts if name)!r})."
            if found
            else "Nothing in it looks like one; save model.state_dict() instead."
        )
    )


def _unpickle(torch: ModuleType, path: Path) -> Any:
    try:
        # the old format, which is no zip file, cannot be mapped into memory
        return torch.load(
            path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
        )
    except (MemoryError, OSError):
        raise
    except Exception as error:  # the unpickler of a damaged file raises anything
        text = str(error)
        if names := sorted(set(re.findall(r"GLOBAL ([\w.]+)", text))):
            raise FileFormatError(
                f"convert: {path} holds Python objects besides weights ({', '.join(names)}), and "
                "reading those could run code. Nothing was read. If you trust the file, load it "
                "with torch yourself and pass model.state_dict()."
            ) from error
        if "TorchScript" in text:
            raise FileFormatError(
                f"convert: {path} is a TorchScript archive. Load it with torch.jit.load and pass "
                "the module or its state_dict()."
            ) from error
        reason = text.strip().splitlines()[0][:200] if text.strip() else type(error).__name__
        raise FileFormatError(
            f"convert: {path} is no readable torch file ({reason}). It is damaged, was not "
            "downloaded completely, or was not written by torch.save."
        ) from error


def _state_dicts(content: Any, prefix: str = "", depth: int = 3) -> Iterator[tuple[str, Any]]:
    """Yield the dotted name of every mapping inside that maps names to arrays alone."""
    if not isinstance(content, Mapping) or not content or depth == 0:
        return
    if all(isinstance(k, str) and is_array(v) for k, v in content.items()):
        yield prefix, content
        return
    for key, value in content.items():
        yield from _state_dicts(value, f"{prefix}.{key}" if prefix else str(key), depth - 1)


def _describe(content: Any) -> str:
    if not isinstance(content, Mapping):
        return f"one {type(content).__name__}"
    if not content:
        return "an empty dictionary"
    names = [f"{key!r}: {type(value).__name__}" for key, value in content.items()]
    return f"a dictionary with {', '.join(names[:8])}{' ...' if len(names) > 8 else ''}"


def save_pt(arrays: Mapping[str, np.ndarray], path: Path) -> None:
    """Write a state_dict with ``torch.save``; names of one array share one tensor."""
    torch = require("torch", extra="torch", needed_for=f"writing {path}")
    tensors: dict[int, Any] = {}
    for array in arrays.values():
        if id(array) not in tensors:
            tensors[id(array)] = to_tensor(array)
    torch.save(OrderedDict((key, tensors[id(array)]) for key, array in arrays.items()), path)


def into_torch(flax_model: nnx.Module, torch_module: Any, *, cast: bool = False) -> None:
    """Load the weights of a Flax model into a live torch module, in place, strictly.

    Tensors are filled where they are, so ties and optimizers that hold them stay valid.

    Args:
        cast: convert to the module's dtypes instead of raising where they differ.

    Raises:
        UnmatchedKeysError, LayoutError, DtypeError: everything wrong, at once; the module is
            unchanged then.

    >>> import torch
    >>> from fluxmod import nn
    >>> theirs = torch.nn.Linear(2, 3)
    >>> into_torch(nn.Linear(2, 3, rngs=nnx.Rngs(0)), theirs)
    """
    arrays = to_torch(flax_model)
    targets = torch_module.state_dict(keep_vars=True)
    owner = f"{type(torch_module).__module__}.{type(torch_module).__qualname__}"
    problems = [*_unmatched(arrays, targets), *_unfit(arrays, targets, cast)]
    if problems:
        lines = "\n".join(f"  {text}" for _, text in problems)
        raise problems[0][0](
            f"into_torch: {owner} was not changed. {len(problems)} problems:\n{lines}\n"
            "Build both models with the same arguments; change dtypes with cast=True."
        )
    torch_module.load_state_dict({key: to_tensor(arrays[key]) for key in targets})


Finding = tuple[type[ConvertError], str]


def _unmatched(arrays: Mapping[str, Any], targets: Mapping[str, Any]) -> Iterator[Finding]:
    for key in targets:
        if key not in arrays:
            yield UnmatchedKeysError, f"missing     {key}: the Flax model has no such weight"
    for key in arrays:
        if key not in targets:
            yield UnmatchedKeysError, f"unexpected  {key}: the torch module has no such weight"


def _unfit(
    arrays: Mapping[str, np.ndarray], targets: Mapping[str, Any], cast: bool
) -> Iterator[Finding]:
    first: dict[Any, str] = {}
    for key, target in targets.items():
        if key not in arrays:
            continue
        if not is_array(target):
            yield LayoutError, f"kind        {key}: a {type(target).__name__}, no tensor"
            continue
        array = arrays[key]
        if target.is_meta:
            yield LayoutError, f"device      {key}: on the meta device, which holds no values"
        if array.shape != tuple(target.shape):
            yield LayoutError, f"shape       {key}: {tuple(target.shape)}, Flax has {array.shape}"
        dtype = str(target.dtype).removeprefix("torch.")
        if str(array.dtype) != dtype and not cast:
            yield DtypeError, f"dtype       {key}: {dtype}, Flax has {array.dtype}"
        known = target.numel() and not target.is_meta
        place = (target.data_ptr(), tuple(target.shape), target.stride()) if known else key
        other = first.setdefault(place, key)
        if arrays[other].tobytes() != array.tobytes():
            yield (
                LayoutError,
                f"tie         {other} and {key} are one tensor in torch and differ in Flax",
            )
