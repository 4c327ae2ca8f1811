"""The part of the certificate that most tests of the porter ask for."""

from __future__ import annotations

from typing import Any

import torch
from flax import nnx

from fluxmod import parity


def require_equal(
    torch_module: torch.nn.Module, ported: nnx.Module, *args: Any, **kwargs: Any
) -> None:
    """L0 and L1 in both modes, of the model as a whole."""
    options = parity.Options(levels=("L0", "L1"), per_module=False)
    parity.check(torch_module, ported, *args, options=options, **kwargs).require()
