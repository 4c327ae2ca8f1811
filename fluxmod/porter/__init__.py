"""Any torch module as Flax NNX source that a person would sign, with weights and proof."""

from __future__ import annotations

from .port import Options as Options
from .port import Port as Port
from .port import port as port
from .port import source as source
from .port import translate as translate

__all__ = ["Options", "Port", "port", "source", "translate"]
