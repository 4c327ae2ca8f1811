"""fluxmod moves PyTorch models to JAX/Flax and proves the result.

Importing this package loads neither torch nor jax: every public name below is fetched when first
used.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_SUBPACKAGES = ("bench", "convert", "doctor", "models", "nn", "optim", "parity", "porter", "train")
_NAMES = {
    "checked": "fluxmod.nn",
    "freeze": "fluxmod.convert",
    "jit": "fluxmod.nn",
    "load_state_dict": "fluxmod.convert",
    "named_parameters": "fluxmod.convert",
    "parameter_count": "fluxmod.convert",
    "port": "fluxmod.porter",
    "state_dict": "fluxmod.convert",
    "unfreeze": "fluxmod.convert",
}

__all__ = [
    "bench",
    "checked",
    "convert",
    "doctor",
    "freeze",
    "jit",
    "load_state_dict",
    "models",
    "named_parameters",
    "nn",
    "optim",
    "parameter_count",
    "parity",
    "port",
    "porter",
    "state_dict",
    "train",
    "unfreeze",
]


def __getattr__(name: str) -> Any:
    if name in _SUBPACKAGES:
        return import_module(f"fluxmod.{name}")
    if name in _NAMES:
        return getattr(import_module(_NAMES[name]), name)
    raise AttributeError(f"module 'fluxmod' has no attribute {name!r}; it offers {__all__}.")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
