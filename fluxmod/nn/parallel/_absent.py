"""What torch does with replicas, JAX does with shards."""

from __future__ import annotations

from typing import Any, NoReturn

from fluxmod.nn._absent import ONE_PROGRAM, DataParallel, absent

__all__ = ["DataParallel", "DistributedDataParallel", "data_parallel"]


class DistributedDataParallel(DataParallel):
    """torch's replicas in many processes: raises, and names the mesh to use.

    Several hosts are one JAX program too, after ``jax.distributed.initialize()``.

    >>> DistributedDataParallel(None)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    NotImplementedError: DistributedDataParallel is not offered: a JAX program runs on all...
    """


def data_parallel(module: Any, *args: Any, **kwargs: Any) -> NoReturn:
    """torch's function of the same name: raises as ``DataParallel`` does."""
    del module, args, kwargs
    absent("data_parallel", ONE_PROGRAM)
