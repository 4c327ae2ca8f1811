"""torch.nn.parallel: names that raise, because JAX does it without wrapping a model."""

from __future__ import annotations

from ._absent import DataParallel as DataParallel
from ._absent import DistributedDataParallel as DistributedDataParallel
from ._absent import data_parallel as data_parallel

__all__ = ["DataParallel", "DistributedDataParallel", "data_parallel"]
