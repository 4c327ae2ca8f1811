"""torch.optim.lr_scheduler: learning rates as functions of the step, by torch's names."""

from __future__ import annotations

from ._base import LRScheduler as LRScheduler
from ._base import count_of as count_of
from ._cycles import CosineAnnealingLR as CosineAnnealingLR
from ._cycles import CosineAnnealingWarmRestarts as CosineAnnealingWarmRestarts
from ._cycles import CyclicLR as CyclicLR
from ._cycles import OneCycleLR as OneCycleLR
from ._factors import ConstantLR as ConstantLR
from ._factors import ExponentialLR as ExponentialLR
from ._factors import LambdaLR as LambdaLR
from ._factors import LinearLR as LinearLR
from ._factors import MultiplicativeLR as MultiplicativeLR
from ._factors import MultiStepLR as MultiStepLR
from ._factors import PolynomialLR as PolynomialLR
from ._factors import StepLR as StepLR
from ._joined import ChainedScheduler as ChainedScheduler
from ._joined import SequentialLR as SequentialLR
from ._plateau import PlateauState as PlateauState
from ._plateau import ReduceLROnPlateau as ReduceLROnPlateau

__all__ = [
    "ChainedScheduler",
    "ConstantLR",
    "CosineAnnealingLR",
    "CosineAnnealingWarmRestarts",
    "CyclicLR",
    "ExponentialLR",
    "LRScheduler",
    "LambdaLR",
    "LinearLR",
    "MultiStepLR",
    "MultiplicativeLR",
    "OneCycleLR",
    "PlateauState",
    "PolynomialLR",
    "ReduceLROnPlateau",
    "SequentialLR",
    "StepLR",
    "count_of",
]
