"""The jitted core: one compiled step, many steps per dispatch, sharding, checkpoints, metrics."""

from __future__ import annotations

from ._checkpoint import Checkpoints as Checkpoints
from ._metrics import Averages as Averages
from ._metrics import accuracy as accuracy
from ._trainer import Trainer as Trainer

__all__ = ["Averages", "Checkpoints", "Trainer", "accuracy"]
