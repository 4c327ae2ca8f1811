"""torch.optim.swa_utils: averaged weights for NNX modules."""

from __future__ import annotations

from ._averaged import AveragedModel as AveragedModel
from ._averaged import get_ema_avg_fn as get_ema_avg_fn
from ._averaged import get_ema_multi_avg_fn as get_ema_multi_avg_fn
from ._averaged import get_swa_avg_fn as get_swa_avg_fn
from ._averaged import get_swa_multi_avg_fn as get_swa_multi_avg_fn
from ._averaged import update_bn as update_bn
from ._swalr import SWALR as SWALR

__all__ = [
    "AveragedModel",
    "SWALR",
    "get_ema_avg_fn",
    "get_ema_multi_avg_fn",
    "get_swa_avg_fn",
    "get_swa_multi_avg_fn",
    "update_bn",
]
