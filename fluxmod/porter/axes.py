"""Which operators work along which axes, and which arrays should have their channels last."""

from __future__ import annotations

from typing import Any

from .ir import Call, Op, ops_below, tree_values
from .orders import declared

__all__ = [
    "FIRST",
    "FLATTENING",
    "MAPS",
    "ONE_AXIS",
    "PERMUTES",
    "REDUCE",
    "RESHAPES",
    "axis_place",
    "demand",
    "named_axes",
]

MAPS = {
    "conv1d", "conv2d", "conv3d", "max_pool1d", "max_pool2d", "max_pool3d", "avg_pool1d",
    "avg_pool2d", "avg_pool3d", "adaptive_avg_pool1d", "adaptive_avg_pool2d",
    "adaptive_avg_pool3d", "adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d",
    "batch_norm", "group_norm", "instance_norm", "upsample_nearest1d", "upsample_nearest2d",
    "upsample_nearest3d", "upsample_bilinear2d", "upsample_linear1d", "upsample_bicubic2d",
    "upsample_trilinear3d", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle",
    "native_channel_shuffle", "conv_transpose1d",
    "conv_transpose2d", "conv_transpose3d", "feature_dropout", "feature_alpha_dropout",
    "_upsample_bicubic2d_aa", "_upsample_bilinear2d_aa", "_upsample_nearest_exact1d",
    "_upsample_nearest_exact2d", "_upsample_nearest_exact3d",
    "max_pool1d_with_indices", "max_pool2d_with_indices", "max_pool3d_with_indices", "im2col",
    "col2im", "grid_sampler", "grid_sampler_2d", "grid_sampler_3d",
}  # fmt: skip
ONE_AXIS = {  # name -> the position of ``dim`` among the arguments; the rank stays
    "softmax": 1, "log_softmax": 1, "_softmax": 1, "_log_softmax": 1, "cumsum": 1, "cumprod": 1,
    "flip": 1, "chunk": 2, "split": 2, "split_with_sizes": 2, "tensor_split": 2, "glu": 1,
    "roll": 2, "sort": 1, "topk": 2, "narrow": 1, "logcumsumexp": 1, "renorm": 2, "index_select": 1,
    "repeat_interleave": 2,
}  # fmt: skip
REDUCE = {  # name -> positions of dim and keepdim
    "mean": (1, 2), "sum": (1, 2), "amax": (1, 2), "amin": (1, 2), "max": (1, 2), "min": (1, 2),
    "argmax": (1, 2), "argmin": (1, 2), "prod": (1, 2), "logsumexp": (1, 2), "any": (1, 2),
    "all": (1, 2), "linalg_vector_norm": (2, 3), "norm": (2, 3), "var": (1, 3), "std": (1, 3),
    "nansum": (1, 2), "nanmean": (1, 2), "median": (1, 2), "count_nonzero": (1, 9),
    "unbind": (1, 9), "squeeze": (1, 9), "select": (1, 9),
}  # fmt: skip
FIRST = ("chunk", "split", "split_with_sizes", "tensor_split", "unbind")  # dim is 0 by default
FLATTENING = ("roll", "repeat_interleave")  # without a dim
PERMUTES = ("permute", "transpose", "swapaxes", "swapdims", "t", "numpy_T", "movedim")
RESHAPES = ("view", "reshape", "flatten", "_unsafe_view", "unflatten", "view_as", "reshape_as")


def axis_place(name: str) -> int:
    """The position of ``dim`` among an operator's arguments."""
    return REDUCE[name][0] if name in REDUCE else ONE_AXIS[name]


def named_axes(op: Op) -> Any:
    """The axes that an operator works along, as it names them or by default; None if it has none.

    An empty list and no axis at all stand for all of them, and are None too.
    """
    name = op.name
    if name not in REDUCE and name not in ONE_AXIS:
        return None
    default = 0 if name in FIRST else -1 if name in ONE_AXIS and name not in FLATTENING else None
    place = axis_place(name)
    dims = op.args[place] if len(op.args) > place else default
    for word in ("dim", "dims"):
        dims = op.kwargs.get(word, dims)
    return None if dims in ([], ()) else dims


def demand(root: Call, elementwise: frozenset[str]) -> tuple[set[int], set[int]]:
    """Values that reach a channels-last consumer through operators that keep the order."""
    wanted: set[int] = set()
    regrouped: set[int] = set()  # what such a value is reshaped from
    for item in reversed(list(ops_below(root))):
        values = list(tree_values((item.args, item.kwargs)))
        if isinstance(item, Call):
            axes = item.leaf.axes()
            for index, tree in enumerate(item.args):
                for value in tree_values(tree):
                    if declared(axes.of_input(index), value.rank):
                        wanted.add(id(value))
            outs = list(tree_values(item.out))
            if axes.elementwise and outs and id(outs[0]) in wanted:
                wanted.update(id(v) for v in values)
            continue
        outs = list(tree_values(item.out))
        if item.target == "fluxmod.same":
            if id(outs[0]) in wanted:
                wanted.add(id(values[0]))
        elif item.name in MAPS:
            wanted.update(id(v) for v in values[:1] if v.rank > 2)
        elif item.name in elementwise or item.name in ("cat", "constant_pad_nd", "pad"):
            for out in outs:
                if id(out) in wanted:
                    wanted.update(id(v) for v in values if v.rank == out.rank)
        elif item.target == "fluxmod.getitem" and outs and id(outs[0]) in wanted:
            wanted.update(id(v) for v in values[:1] if v.rank == outs[0].rank)
        elif item.name in ("chunk", "split", "split_with_sizes"):
            if any(id(out) in wanted for out in outs):
                wanted.add(id(values[0]))
        elif item.name in RESHAPES and outs and id(outs[0]) in wanted:
            regrouped.update(id(v) for v in values[:1])
    return wanted, regrouped
