"""Speed of a model in torch and in Flax, side by side in one run.

What is compared: torch eager (for images in both orders of axes), ``torch.compile``, and the
model's Flax counterpart, compiled, for inference and for a full training step. All take turns
within one run, so that a machine's mood strikes them alike.
"""

from __future__ import annotations

from ._case import Case as Case
from ._clock import JOBS as JOBS
from ._clock import Row as Row
from ._clock import compare as compare
from ._clock import matmul_peak as matmul_peak
from ._conv import convolutions as convolutions
from ._table import facts as facts
from ._table import load as load
from ._table import markdown as markdown
from ._table import save as save

__all__ = [
    "JOBS",
    "Case",
    "Row",
    "compare",
    "convolutions",
    "facts",
    "load",
    "markdown",
    "matmul_peak",
    "save",
]
