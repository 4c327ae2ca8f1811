"""Any torch module as Flax NNX source that a person would sign, with weights and proof."""

from __future__ import annotations

from fluxmod._optional import require

require("torch", extra="torch", needed_for="fluxmod.porter")

from .feed import Input as Input  # noqa: E402
from .feed import feed as feed  # noqa: E402
from .feed import inputs as inputs  # noqa: E402
from .port import Options as Options  # noqa: E402
from .port import Port as Port  # noqa: E402
from .port import notes as notes  # noqa: E402
from .port import port as port  # noqa: E402
from .port import source as source  # noqa: E402
from .port import translate as translate  # noqa: E402
from .survey import Coverage as Coverage  # noqa: E402
from .survey import coverage as coverage  # noqa: E402

__all__ = [
    "Coverage",
    "Input",
    "Options",
    "Port",
    "coverage",
    "feed",
    "inputs",
    "notes",
    "port",
    "source",
    "translate",
]
