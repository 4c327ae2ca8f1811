"""Names of torch.nn that have no place in JAX: each says why, and what to use instead."""

from __future__ import annotations

from typing import Any, NoReturn

__all__ = ["DataParallel", "UninitializedBuffer", "UninitializedParameter"]

ONE_PROGRAM = (
    "a JAX program runs on all devices at once, and arrays say where they lie. Train with "
    "fluxmod.train.Trainer(..., mesh=jax.make_mesh((jax.device_count(),), ('data',))), or shard "
    "the batch with jax.device_put and jit the step as it is."
)


def absent(name: str, reason: str) -> NoReturn:
    """Raise the one error of a name that is not offered."""
    raise NotImplementedError(f"{name} is not offered: {reason}")


class DataParallel:
    """torch's replicas of a module in one process: raises, and names the mesh to use.

    >>> DataParallel(None)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    NotImplementedError: DataParallel is not offered: a JAX program runs on all devices at once...
    """

    def __init__(self, module: Any, *args: Any, **kwargs: Any) -> None:
        del module, args, kwargs
        absent(type(self).__name__, ONE_PROGRAM)


class UninitializedParameter:
    """torch's parameter without a shape: raises; lazy layers have none before their first call."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        del args, kwargs
        absent(
            type(self).__name__,
            "a Variable always holds an array. Layers that wait for their input's size are "
            "nn.LazyLinear and the like, which have no parameters before their first call.",
        )


class UninitializedBuffer(UninitializedParameter):
    """torch's buffer without a shape: raises as ``UninitializedParameter`` does."""
