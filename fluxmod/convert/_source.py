"""Reading weights from wherever they are: a live torch module, a state_dict, a file or a folder."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from fluxmod._errors import ConvertError

__all__ = ["Source", "Weight", "as_numpy", "read"]


@dataclass(frozen=True, slots=True)
class Weight:
    """One array of a source: its shape and dtype at once, its values when asked for."""

    shape: tuple[int, ...]
    dtype: str
    load: Callable[[], np.ndarray]
    identity: Any = None
    """Equal for weights that share memory in the source (ties), None when unknown."""


class Source(Mapping[str, Weight]):
    """Named weights in torch's layout, read lazily; ``origin`` says where they come from."""

    def __init__(self, weights: Mapping[str, Weight], origin: str) -> None:
        self._weights = dict(weights)
        self.origin = origin

    def __getitem__(self, key: str) -> Weight:
        return self._weights[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._weights)

    def __len__(self) -> int:
        return len(self._weights)

    def tied(self) -> list[list[str]]:
        """Groups of keys that are one tensor in the source."""
        groups: dict[Any, list[str]] = {}
        for key, weight in self._weights.items():
            if weight.identity is not None:
                groups.setdefault(weight.identity, []).append(key)
        return [keys for keys in groups.values() if len(keys) > 1]


def read(source: Any) -> Source:
    """Read a torch module, a mapping of arrays, or a path; nothing is copied yet.

    Raises:
        ConvertError: the source is of none of these kinds, or holds values that are not arrays.
        FileFormatError: the file is damaged, unsafe or of an unknown kind.
    """
    if isinstance(source, Source):
        return source
    if isinstance(source, (str, os.PathLike)):
        from ._files import open_weights

        return open_weights(source)
    if isinstance(source, Mapping):
        return _from_mapping(source, "the mapping")
    if hasattr(source, "state_dict") and hasattr(source, "named_parameters"):
        origin = f"{type(source).__module__}.{type(source).__qualname__}"
        return _from_mapping(_keep_ties(source), origin)
    raise ConvertError(
        f"convert: cannot read weights from {type(source).__name__}. Give a torch module, a "
        "mapping of names to arrays, or the path of a .safetensors, .pt or .bin file or folder."
    )


def _keep_ties(module: Any) -> Mapping[str, Any]:
    """state_dict with tensors that still share memory where parameters are tied.

    What a module adds to it beside tensors (``get_extra_state``, its settings) is no weight.
    """
    return {key: value for key, value in module.state_dict().items() if hasattr(value, "dtype")}


def _from_mapping(mapping: Mapping[str, Any], origin: str) -> Source:
    bad = [f"{k!r}: {type(v).__name__}" for k, v in mapping.items() if not is_array(v)]
    if bad or not all(isinstance(k, str) for k in mapping):
        raise ConvertError(
            f"convert: {origin} must map names to arrays, and these are none: "
            f"{', '.join(bad[:10])}{' ...' if len(bad) > 10 else ''}. "
            "If it is a checkpoint that holds more than weights, pass its state_dict entry."
        )
    return Source({key: _weight(value) for key, value in mapping.items()}, origin)


def is_array(value: Any) -> bool:
    """Whether a value offers a shape and a dtype: torch tensors, numpy and JAX arrays."""
    return hasattr(value, "shape") and hasattr(value, "dtype")


def _weight(value: Any) -> Weight:
    dtype = str(value.dtype).removeprefix("torch.")
    return Weight(
        tuple(int(n) for n in value.shape), dtype, lambda: as_numpy(value), _identity(value)
    )


def _identity(value: Any) -> Any:
    """Address, shape and strides of a tensor's memory, to find ties; None where unknown."""
    if not hasattr(value, "data_ptr") or value.numel() == 0 or value.device.type == "meta":
        return None
    return (str(value.device), value.data_ptr(), tuple(value.shape), tuple(value.stride()))


def as_numpy(value: Any) -> np.ndarray:
    """Copy a torch tensor, numpy or JAX array into a fresh numpy array, bit for bit.

    bfloat16, which torch cannot give to numpy, goes through its 16-bit pattern.

    >>> as_numpy(np.arange(3)).tolist()
    [0, 1, 2]
    """
    if not hasattr(value, "detach"):
        return np.array(value)
    if getattr(value, "is_meta", False):
        raise ConvertError(
            "convert: a tensor is on the meta device and holds no values. Load the weights first, "
            "or convert from the checkpoint file."
        )
    value = value.detach().cpu()
    torch = sys.modules["torch"]
    bits = {
        torch.bfloat16: (torch.int16, ml_dtypes.bfloat16),
        torch.float8_e4m3fn: (torch.uint8, ml_dtypes.float8_e4m3fn),
        torch.float8_e5m2: (torch.uint8, ml_dtypes.float8_e5m2),
    }.get(value.dtype)
    if bits is None:
        return np.array(value.numpy())
    pattern, dtype = bits
    return np.array(value.contiguous().view(pattern).numpy()).view(dtype)
