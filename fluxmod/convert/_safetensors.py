"""The safetensors format: a checked header, then raw little-endian arrays."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from fluxmod._errors import DtypeError, FileFormatError

from ._source import Weight

__all__ = ["read_safetensors", "write_safetensors"]

DTYPES: Mapping[str, np.dtype[Any]] = {
    name: np.dtype(kind)
    for name, kind in {
        "F64": np.float64,
        "F32": np.float32,
        "F16": np.float16,
        "BF16": ml_dtypes.bfloat16,
        "F8_E4M3": ml_dtypes.float8_e4m3fn,
        "F8_E4M3FNUZ": ml_dtypes.float8_e4m3fnuz,
        "F8_E5M2": ml_dtypes.float8_e5m2,
        "F8_E5M2FNUZ": ml_dtypes.float8_e5m2fnuz,
        "F8_E8M0": ml_dtypes.float8_e8m0fnu,
        "C64": np.complex64,
        "I64": np.int64,
        "I32": np.int32,
        "I16": np.int16,
        "I8": np.int8,
        "U64": np.uint64,
        "U32": np.uint32,
        "U16": np.uint16,
        "U8": np.uint8,
        "BOOL": np.bool_,
    }.items()
}


def read_safetensors(path: Path) -> dict[str, Weight]:
    """List the arrays of one file; values are read when asked for.

    Raises:
        FileFormatError: the header is damaged, the file is truncated, or a dtype is not known.
    """
    try:
        with safe_open(path, framework="numpy"):  # checks the header against the file's size
            pass
    except SafetensorError as error:
        raise FileFormatError(
            f"convert: {path} is no readable safetensors file: {error}. It is damaged or was not "
            "downloaded completely; fetch it again."
        ) from error
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header: dict[str, Any] = json.loads(file.read(length))
    header.pop("__metadata__", None)
    unknown = sorted({e["dtype"] for e in header.values()} - set(DTYPES))
    if unknown:
        raise FileFormatError(
            f"convert: {path} holds dtypes that cannot be read: {', '.join(unknown)}. "
            f"Known are {', '.join(DTYPES)}."
        )
    return {key: _weight(path, 8 + length, entry) for key, entry in header.items()}


def _weight(path: Path, start: int, entry: Mapping[str, Any]) -> Weight:
    dtype, shape = DTYPES[entry["dtype"]], tuple(entry["shape"])
    load = partial(_load, path, start + entry["data_offsets"][0], dtype, shape)
    return Weight(shape, str(dtype), load)


def _load(path: Path, offset: int, dtype: np.dtype[Any], shape: tuple[int, ...]) -> np.ndarray:
    count = int(np.prod(shape, dtype=np.int64))
    array = np.fromfile(path, dtype, count, offset=offset)
    if array.size != count:
        raise FileFormatError(f"convert: {path} became shorter while it was read.")
    return array.reshape(shape)


def write_safetensors(
    arrays: Mapping[str, np.ndarray], path: str | os.PathLike[str], metadata: Mapping[str, str]
) -> None:
    """Write one file; arrays may have any memory order."""
    # save_file writes the memory as it lies: a transposed view would come back scrambled
    save_file({k: np.asarray(a, order="C") for k, a in arrays.items()}, path, dict(metadata))


def check_writable(weights: Mapping[str, Weight]) -> None:
    """Raise DtypeError naming every array that the format cannot hold."""
    known = {str(dtype) for dtype in DTYPES.values()}
    bad = [
        f"{key} ({weight.dtype})" for key, weight in weights.items() if weight.dtype not in known
    ]
    if bad:
        raise DtypeError(
            f"save: safetensors cannot hold these dtypes: {', '.join(bad)}. "
            "Save as .pt, or convert them."
        )
