"""How torch's functions are called in fluxmod: where channels are, and what cannot be compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fluxmod.nn import Channel

from .ops import Perm, Twin


def _map(nd: int, *names: str, outputs: int = 1, **kwargs: Any) -> Twin:
    """A function over maps with ``nd`` spatial axes: channels in front of them in torch."""
    channel = Channel(-nd - 1)
    inputs = {name: channel for name in (names or ("input",))}
    return Twin(inputs, channel if outputs == 1 else (channel,) * outputs, **kwargs)


def _conv(nd: int) -> Twin:
    """torch's weight is (O, I/g, *k), the kernel is (*k, I/g, O)."""
    kernel = Perm((*range(2, nd + 2), 1, 0))
    channel = Channel(-nd - 1)
    return Twin({"input": channel, "weight": kernel}, channel, rename={"weight": "kernel"})


def _batch_first(given: Mapping[str, Any]) -> str | None:
    return "no channel axis" if given["input"].ndim < 3 else None


class LastToFront:
    """The last axis of torch's array is the first here: a linear weight of any rank."""

    def to_flax(self, array: Any) -> Any:
        """torch's order to ours."""
        return np.moveaxis(array, -1, 0)

    def to_torch(self, array: Any) -> Any:
        """Our order to torch's."""
        return np.moveaxis(array, 0, -1)


KERNELS = tuple(f"{name}_proj_weight" for name in ("in", "out", "q", "k", "v"))
"""The weights of attention that are transposed."""

FRONT = Channel(1, min_rank=3)
"""Channels on axis 1 of a batch of maps of any rank."""

TWINS: dict[str, Twin] = {
    **{f"conv{nd}d": _conv(nd) for nd in (1, 2, 3)},
    **{
        f"{kind}{nd}d": _map(nd)
        for nd in (1, 2, 3)
        for kind in ("max_pool", "avg_pool", "adaptive_avg_pool", "adaptive_max_pool")
    },
    "batch_norm": Twin(
        {"input": FRONT}, FRONT, rename={"weight": "scale"}, drop=("momentum",), outputs=1
    ),
    "embedding": Twin(rename={"weight": "embedding"}, drop=("sparse",)),
    "embedding_bag": Twin(rename={"weight": "embedding"}),
    "layer_norm": Twin(rename={"weight": "scale"}),
    "linear": Twin({"weight": Perm((1, 0))}, rename={"weight": "kernel"}),
    "bilinear": Twin(rename={"weight": "kernel"}),
    "dropout2d": _map(2),
    "dropout3d": _map(3),
    "feature_alpha_dropout": Twin({"input": Channel(1)}, Channel(1), drop=("inplace",)),
    "alpha_dropout": Twin(drop=("inplace",)),
    "group_norm": Twin({"input": Channel(1)}, Channel(1), rename={"weight": "scale"}),
    "instance_norm": Twin(
        {"input": Channel(1)}, Channel(1), rename={"weight": "scale"}, drop=("momentum",), outputs=1
    ),
    "linear_cross_entropy": Twin(
        {"linear_weight": LastToFront()}, rename={"linear_weight": "linear_kernel"}
    ),
    "local_response_norm": Twin({"input": Channel(1)}, Channel(1)),
    "multi_head_attention_forward": Twin(
        {name: Perm((1, 0)) for name in KERNELS},
        rename={name: name.replace("weight", "kernel") for name in KERNELS},
    ),
    "rms_norm": Twin(rename={"weight": "scale"}),
}
"""By name, or by name and variant; a function that is not listed takes torch's arguments."""


def twin_of(label: str) -> Twin:
    """The row of an entry, or of its function."""
    return TWINS.get(label) or TWINS.get(label.split("[")[0]) or Twin()
