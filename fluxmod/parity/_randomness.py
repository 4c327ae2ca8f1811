"""L5: torch's masks replay exactly, and the layer's own sampler draws at the right rate."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from fluxmod import nn

from .compare import Row
from .criteria import CRITERIA

__all__ = ["randomness_rows", "sampler_rows"]

UNITS = 2**15
"""Independent decisions per sampler test: rates are then known to 0.015 at the bound used."""

_SHAPES: dict[type, tuple[int, ...]] = {
    nn.Dropout1d: (UNITS // 8, 3, 8),
    nn.Dropout2d: (UNITS // 8, 2, 3, 8),
    nn.Dropout3d: (UNITS // 8, 2, 2, 2, 8),
}


def randomness_rows(flax_model: nnx.Module, drawn: int, train_rows: Iterable[Row]) -> list[Row]:
    """Judge the replay by the training-mode comparisons, and test each sampler of the model.

    Args:
        drawn: how many masks torch drew in one training-mode forward.
        train_rows: the L1 rows in training mode, in which those masks were replayed.
    """
    if not drawn:
        return [Row("L5", "train", "random layers", 0.0, 0.0, None, "torch drew no random mask")]
    rows = [row for row in train_rows if row.passed is not None and not row.path]
    worst = max((row.error for row in rows), default=math.inf)
    replayed = Row(
        "L5",
        "train",
        f"replay of {drawn} mask{'s' if drawn > 1 else ''}",
        worst,
        CRITERIA["L1"].limit,
        bool(rows) and all(row.passed for row in rows),
    )
    return [replayed, *sampler_rows(flax_model)]


def sampler_rows(flax_model: nnx.Module) -> list[Row]:
    """Test the sampler of every kind of dropout that the model holds, once per rate."""
    kinds: dict[tuple[type, float], str] = {}
    for path, module in nn.named_modules(flax_model):
        rate = getattr(module, "rate", getattr(module, "dropout", None))
        if isinstance(rate, float) and 0.0 < rate < 1.0:
            kind = type(module) if type(module) in _SHAPES else nn.Dropout
            kinds.setdefault((kind, rate), path)
    rows: list[Row] = []
    for (kind, rate), path in kinds.items():
        rows += _sampler(kind, rate, path)
    return rows


def _sampler(kind: type, rate: float, path: str) -> list[Row]:
    layer: Any = kind(rate, rngs=nnx.Rngs(dropout=0))
    ones = jnp.ones(_SHAPES.get(kind, (UNITS,)))
    draw = jax.device_get([layer(ones), layer(ones)])
    layer.eval()
    units = [_units(d) for d in draw]
    bound = math.sqrt(math.log(2 / CRITERIA["L5"].limit) / (2 * UNITS))  # Hoeffding
    name = f"{kind.__name__}({rate})"
    kept = [float((u > 0).mean()) for u in units]
    rate_error = max(abs(k - (1 - rate)) for k in kept)
    agree = float((units[0] == units[1]).mean())
    expected = (1 - rate) ** 2 + rate**2
    scale = float(np.abs(np.concatenate(units).max() * (1 - rate) - 1))
    whole = max(float(np.ptp(d, axis=tuple(range(1, d.ndim - 1))).max()) for d in draw)
    return [
        _row(f"{name}: keep rate", rate_error, bound, path),
        _row(f"{name}: independent calls", abs(agree - expected), bound, path),
        _row(f"{name}: scale 1/(1-p)", scale, 1e-6, path),
        _row(f"{name}: one decision per unit", whole if kind in _SHAPES else 0.0, 0.0, path),
        _row(
            f"{name}: identity in eval",
            float(jnp.abs(layer(ones) - ones).max()),
            0.0,
            path,
        ),
    ]


def _units(draw: np.ndarray) -> np.ndarray:
    """One value per independent decision: per element, or per channel of each example."""
    return draw if draw.ndim == 1 else draw.reshape(draw.shape[0], -1, draw.shape[-1])[:, 0].ravel()


def _row(what: str, error: float, limit: float, path: str) -> Row:
    return Row("L5", "sampler", what, error, limit, error <= limit, path=path)
