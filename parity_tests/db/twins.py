"""How torch's functions are called in fluxmod: where channels are, and what cannot be compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

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


def _transposed(nd: int) -> Twin:
    """torch's weight is (C, O/g, *k), the kernel is (*k, O/g, C)."""
    kernel = Perm((*range(2, nd + 2), 1, 0))
    channel = Channel(-nd - 1)
    return Twin({"input": channel, "weight": kernel}, channel, rename={"weight": "kernel"})


def _unpool(nd: int) -> Twin:
    """Indices move with the values; torch's sizes of whole outputs have the channels first."""
    channel = Channel(-nd - 1)

    def ours(given: dict[str, Any]) -> dict[str, Any]:
        size = given.get("output_size")
        return given if size is None else {**given, "output_size": tuple(size)[-nd:]}

    return Twin({"input": channel, "indices": channel}, channel, ours=ours)


def _fractional(nd: int) -> Twin:
    """The samples that torch would draw are given to both."""

    def prepare(given: dict[str, Any]) -> dict[str, Any]:
        if given.get("_random_samples") is not None:
            return given
        x = given["input"]
        batch, channels = (x.shape[0] if x.ndim == nd + 2 else 1), x.shape[-nd - 1]
        generator = torch.Generator().manual_seed(0)
        drawn = torch.rand(batch, channels, nd, generator=generator, dtype=x.dtype)
        return {**given, "_random_samples": drawn}

    return _map(nd, prepare=prepare)


def _integers(given: Mapping[str, Any]) -> str | None:
    if given["input"].is_floating_point():
        return None
    return "torch averages squares of integers in whole numbers"


_PROJECTIONS = tuple(f"{part}_proj_weight" for part in ("in", "out", "q", "k", "v"))


class LastToFront:
    """The last axis of torch's array is the first here: a linear weight of any rank."""

    def to_flax(self, array: Any) -> Any:
        """torch's order to ours."""
        return np.moveaxis(array, -1, 0)

    def to_torch(self, array: Any) -> Any:
        """Our order to torch's."""
        return np.moveaxis(array, 0, -1)


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
    **{f"conv_transpose{nd}d": _transposed(nd) for nd in (1, 2, 3)},
    **{f"lp_pool{nd}d": _map(nd) for nd in (1, 2, 3)},
    **{f"max_unpool{nd}d": _unpool(nd) for nd in (1, 2, 3)},
    **{f"fractional_max_pool{nd}d": _fractional(nd) for nd in (2, 3)},
    "interpolate": Twin({"input": Channel(1)}, Channel(1)),
    "upsample_bilinear": Twin({"input": Channel(1)}, Channel(1)),
    "upsample_nearest": Twin({"input": Channel(1)}, Channel(1)),
    "grid_sample": Twin({"input": Channel(1)}, Channel(1)),
    "unfold": Twin({"input": Channel(-3)}, Channel(-2)),
    "pixel_shuffle": Twin({"input": Channel(-3)}, Channel(-3)),
    "pixel_unshuffle": Twin({"input": Channel(-3)}, Channel(-3)),
    "channel_shuffle": Twin({"input": Channel(1)}, Channel(1)),
    "batch_norm": Twin(
        {"input": FRONT}, FRONT, rename={"weight": "scale"}, drop=("momentum",), outputs=1
    ),
    "embedding": Twin(rename={"weight": "embedding"}, drop=("sparse",)),
    "embedding_bag": Twin(rename={"weight": "embedding"}),
    "layer_norm": Twin(rename={"weight": "scale"}),
    "linear": Twin({"weight": Perm((1, 0))}, rename={"weight": "kernel"}),
    "bilinear": Twin(rename={"weight": "kernel"}),
    "multi_head_attention_forward": Twin(
        {name: Perm((1, 0)) for name in _PROJECTIONS},
        rename={name: name.replace("weight", "kernel") for name in _PROJECTIONS},
    ),
    "dropout2d": Twin({"input": Channel(1)}, Channel(1)),  # three axes are (N, C, L) in torch
    "dropout3d": _map(3),
    "feature_alpha_dropout": Twin({"input": Channel(1)}, Channel(1)),
    "group_norm": Twin({"input": Channel(1)}, Channel(1), rename={"weight": "scale"}),
    "instance_norm": Twin(
        {"input": Channel(1)}, Channel(1), rename={"weight": "scale"}, drop=("momentum",), outputs=1
    ),
    "local_response_norm": Twin({"input": Channel(1)}, Channel(1), leave=_integers),
    "linear_cross_entropy": Twin(
        {"linear_weight": LastToFront()}, rename={"linear_weight": "linear_kernel"}
    ),
    "prelu": Twin({"input": Channel(1, min_rank=4)}, Channel(1, min_rank=4)),
    "rms_norm": Twin(rename={"weight": "scale"}),
}
"""By name, or by name and variant; a function that is not listed takes torch's arguments."""


def twin_of(label: str) -> Twin:
    """The row of an entry, or of its function."""
    return TWINS.get(label) or TWINS.get(label.split("[")[0]) or Twin()
