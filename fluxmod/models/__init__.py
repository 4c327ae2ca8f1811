"""The note models in both frameworks: ``fluxmod.models.torch`` and ``fluxmod.models.flax``.

Both packages have the same files, classes and constructor arguments; Flax adds ``rngs``.
"""

from __future__ import annotations

from ._catalog import CATALOG as CATALOG
from ._catalog import Entry as Entry
from ._catalog import Input as Input
from ._catalog import entry as entry

__all__ = ["CATALOG", "Entry", "Input", "entry"]
