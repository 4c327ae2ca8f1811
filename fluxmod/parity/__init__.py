"""Proof that a Flax model computes what a torch module computes."""

from __future__ import annotations

from fluxmod._optional import require

require("torch", extra="torch", needed_for="fluxmod.parity")

from .check import check as check  # noqa: E402
from .compare import Row as Row  # noqa: E402
from .criteria import CRITERIA as CRITERIA  # noqa: E402
from .criteria import Criterion as Criterion  # noqa: E402
from .options import LEVELS as LEVELS  # noqa: E402
from .options import OptimizerPair as OptimizerPair  # noqa: E402
from .options import Options as Options  # noqa: E402
from .report import Report as Report  # noqa: E402
from .report import environment as environment  # noqa: E402

__all__ = [
    "CRITERIA",
    "Criterion",
    "LEVELS",
    "OptimizerPair",
    "Options",
    "Report",
    "Row",
    "check",
    "environment",
]
