"""Classes that ``module_db`` leaves out: arguments and shapes drawn by hypothesis.

Each entry draws one ``Case``: constructor arguments, inputs in torch's order of axes, the mode.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from hypothesis import assume
from hypothesis import strategies as st
from torch import nn as tnn

from fluxmod import nn
from parity_tests.nn.twins import Case, Ints, flax_inputs

Draw = Callable[[Any], Any]

SIZE = st.integers(1, 4)
PROBABILITY = st.sampled_from([0.0, 0.2, 0.5, 1.0])
REDUCTION = st.sampled_from(["none", "mean", "sum"])
MODES = st.booleans()


def case(name: str, args: Any, x: Any, kwargs: Any = None, **more: Any) -> Case:
    """A case of a class whose two constructors take the same arguments."""
    kwargs = kwargs or {}
    shown = ", ".join([*map(str, args), *(f"{k}={v}" for k, v in kwargs.items())])
    return Case(f"{name}({shown})", getattr(tnn, name), getattr(nn, name), args, kwargs, x, **more)


def maps(draw: Draw, nd: int, low: int = 1, high: int = 5, channels: int | None = None) -> Any:
    """Shape of a batch of maps with ``nd`` spatial axes."""
    spatial = [draw(st.integers(low, high)) for _ in range(nd)]
    return (draw(SIZE), channels or draw(SIZE), *spatial)


def any_shape(draw: Draw, low: int = 0, high: int = 4) -> tuple[int, ...]:
    """A shape of any rank."""
    return tuple(draw(SIZE) for _ in range(draw(st.integers(low, high))))


def adaptive_softmax(draw: Draw) -> Case:
    """Clusters of any widths."""
    first, second, last = (draw(st.integers(1, 4)) for _ in range(3))
    classes, width = first + second + last, draw(st.integers(4, 8))
    kwargs = {"div_value": draw(st.sampled_from([1.5, 2.0])), "head_bias": draw(st.booleans())}
    n = draw(SIZE)
    args = (width, classes, [first, first + second])
    return case("AdaptiveLogSoftmaxWithLoss", args, [(n, width), Ints((n,), classes)], kwargs)


def dropout(name: str, ranks: tuple[int, ...] | None, train: bool = True) -> Callable[[Draw], Case]:
    """Any probability; torch's masks are replayed in training."""

    def make(draw: Draw) -> Case:
        rank = draw(st.sampled_from(ranks)) if ranks else draw(st.integers(1, 4))
        shape = tuple(draw(st.integers(1, 4)) for _ in range(rank))
        mode = train and draw(MODES)
        p = draw(PROBABILITY) if train else draw(st.sampled_from([0.0, 0.2, 0.5]))
        return case(name, (p,), shape, train=mode)

    return make


def rrelu(draw: Draw) -> Case:
    """Evaluation, and training with one slope for all."""
    low = draw(st.sampled_from([0.1, 0.25]))
    train = draw(MODES)
    # a mask of three or more axes could be a map's, so that its order would be ambiguous
    shape = any_shape(draw, 1, 2 if train else 4)
    return case("RReLU", (low, low if train else low + 0.2), shape, train=train)


def channel_shuffle(draw: Draw) -> Case:
    """Groups of any size."""
    groups = draw(SIZE)
    return case("ChannelShuffle", (groups,), maps(draw, 2, channels=groups * draw(SIZE)))


def distance(name: str) -> Callable[[Draw], Case]:
    """Two arrays of one shape."""

    def make(draw: Draw) -> Case:
        shape = (draw(SIZE), draw(st.integers(2, 5)), *any_shape(draw, 0, 1))
        if name == "CosineSimilarity":
            args: Any = (draw(st.integers(-len(shape), len(shape) - 1)), 1e-6)
        else:
            args = (draw(st.sampled_from([1.0, 2.0, 3.5])), 1e-6, draw(st.booleans()))
        return case(name, args, [shape, shape])

    return make


def cross_map(draw: Draw) -> Case:
    """Windows smaller and larger than the channels; torch has no gradient of size 1."""
    args = (draw(st.integers(2, 7)), draw(st.sampled_from([1e-2, 0.5])), 0.75, 1.5)
    return case("CrossMapLRN2d", args, maps(draw, 2, channels=draw(st.integers(1, 6))))


def embedding_bag(draw: Draw) -> Case:
    """Bags of equal size, or given by offsets."""
    rows, width, mode = (
        draw(st.integers(3, 8)),
        draw(SIZE),
        draw(st.sampled_from(["sum", "mean", "max"])),
    )
    kwargs = {"mode": mode, "padding_idx": draw(st.sampled_from([None, 0, -1]))}
    n, length = draw(SIZE), draw(SIZE)
    if draw(st.booleans()):
        offsets = np.sort(np.array([0, *(draw(st.integers(0, n * length)) for _ in range(2))]))
        x = [Ints((n * length,), rows)]
        return case("EmbeddingBag", (rows, width), x, kwargs, call={"offsets": offsets})
    return case("EmbeddingBag", (rows, width), [Ints((n, length), rows)], kwargs)


def flatten(draw: Draw) -> Case:
    """Any range of axes, of maps the usual one: there the axes are counted as the array stands."""
    shape = any_shape(draw, 2)
    if len(shape) == 4:
        return case("Flatten", (), shape)
    start = draw(st.integers(0, 1))  # from 2 on the axes are those of a map
    return case("Flatten", (start, draw(st.integers(start, len(shape) - 1))), shape)


def unflatten(draw: Draw) -> Case:
    """An axis of features into two."""
    a, b = draw(SIZE), draw(SIZE)
    return case("Unflatten", (1, (a, b)), (draw(SIZE), a * b))


def windows(draw: Draw) -> tuple[int, int, int, int]:
    """Kernel, dilation, padding and stride."""
    return (draw(st.integers(1, 3)), draw(st.integers(1, 2)), draw(st.integers(0, 1)), draw(SIZE))


def unfold(draw: Draw) -> Case:
    """Patches of maps that hold at least one."""
    args = windows(draw)
    return case("Unfold", args, maps(draw, 2, 5, 7))


def fold(draw: Draw) -> Case:
    """As many patches as the output holds."""
    kernel, dilation, padding, stride = windows(draw)
    height, width = draw(st.integers(5, 7)), draw(st.integers(5, 7))
    count = 1
    for size in (height, width):
        count *= (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
    x = (draw(SIZE), draw(SIZE) * kernel * kernel, count)
    return case("Fold", ((height, width), kernel, dilation, padding, stride), x)


def hardsigmoid(draw: Draw) -> Case:
    """Any shape."""
    return case("Hardsigmoid", (), any_shape(draw), scale=4.0)


def lazy(name: str, nd: int) -> Callable[[Draw], Case]:
    """The first call tells the sizes, on both sides."""

    def make(draw: Draw) -> Case:
        shape = (draw(st.integers(2, 4)), draw(SIZE), *(draw(st.integers(2, 4)) for _ in range(nd)))
        kwargs: dict[str, Any] = {"affine": draw(st.booleans())} if nd else {}
        args = () if nd else (draw(SIZE),)
        first = np.zeros(shape)

        def theirs(*args: Any, **kwargs: Any) -> torch.nn.Module:
            layer = getattr(tnn, name)(*args, **kwargs).double()
            layer(torch.from_numpy(first))
            return layer

        def ours(*args: Any, rngs: Any, param_dtype: Any, **kwargs: Any) -> Any:
            types = {"param_dtype": param_dtype} | ({} if nd else {"rngs": rngs})
            layer = getattr(nn, name)(*args, **types, **kwargs)
            layer(*flax_inputs(layer, [first.astype(param_dtype)]))
            return layer

        label = f"{name}({shape}, {kwargs})"
        return Case(label, theirs, ours, args, kwargs, shape, train=draw(MODES))

    return make


def max_unpool(nd: int) -> Callable[[Draw], Case]:
    """Values and places from torch's own pooling."""

    def make(draw: Draw) -> Case:
        shape = maps(draw, nd, 4, 6)
        pool = getattr(torch.nn.functional, f"max_pool{nd}d")
        kernel, stride = draw(st.integers(2, 3)), draw(st.integers(2, 3))
        assume(stride >= kernel)  # torch writes overlapping windows in no fixed order

        def arrays(rng: np.random.Generator) -> tuple[np.ndarray, ...]:
            x = torch.from_numpy(rng.standard_normal(shape))
            values, places = pool(x, kernel, stride, return_indices=True)
            return values.numpy(), places.numpy()

        size = {"output_size": shape[2:]}
        return case(f"MaxUnpool{nd}d", (kernel, stride), arrays, call=size)

    return make


def nll(draw: Draw) -> Case:
    """Log-probabilities of maps."""
    shape = maps(draw, 2, channels=draw(st.integers(2, 4)))
    labels = Ints((shape[0], *shape[2:]), shape[1])
    return case("NLLLoss2d", (), [shape, labels], {"reduction": draw(REDUCTION)})


def pixel(name: str) -> Callable[[Draw], Case]:
    """Sizes that the factor divides."""

    def make(draw: Draw) -> Case:
        r, (n, c, h, w) = draw(st.integers(1, 3)), maps(draw, 2)
        shape = (n, c * r * r, h, w) if name == "PixelShuffle" else (n, c, h * r, w * r)
        return case(name, (r,), shape)

    return make


def sync_batch_norm(draw: Draw) -> Case:
    """Evaluation: torch computes the training mode on GPUs alone."""
    channels = draw(SIZE)
    kwargs = {"affine": draw(st.booleans()), "eps": draw(st.sampled_from([1e-5, 0.1]))}
    x = maps(draw, draw(st.integers(0, 3)), channels=channels)
    return case("SyncBatchNorm", (channels,), x, kwargs, train=False)


def decoder(draw: Draw) -> Case:
    """Layers with and without a final norm, torch's masks replayed."""
    heads, norm_first = draw(st.sampled_from([1, 2])), draw(st.booleans())
    width, layers = 4 * heads, draw(st.integers(1, 2))
    settings = {"dim_feedforward": 6, "batch_first": True, "norm_first": norm_first}
    final, dropout = draw(st.booleans()), draw(st.sampled_from([0.0, 0.3]))

    def theirs() -> torch.nn.Module:
        layer = tnn.TransformerDecoderLayer(width, heads, dropout=dropout, **settings)
        return tnn.TransformerDecoder(layer, layers, tnn.LayerNorm(width) if final else None)

    def ours(*, rngs: Any, param_dtype: Any) -> Any:
        types = {"rngs": rngs, "param_dtype": param_dtype}
        layer = nn.TransformerDecoderLayer(width, heads, dropout=dropout, **settings, **types)
        norm = nn.LayerNorm(width, param_dtype=param_dtype) if final else None
        return nn.TransformerDecoder(layer, layers, norm)

    n, target, memory = draw(SIZE), draw(st.integers(2, 4)), draw(SIZE)
    label = f"TransformerDecoder({width}, {heads}, {layers}, {norm_first}, {final}, {dropout})"
    x = [(n, target, width), (n, memory, width)]
    return Case(label, theirs, ours, x=x, train=draw(MODES))


def triplet(name: str) -> Callable[[Draw], Case]:
    """Three arrays of one shape."""

    def make(draw: Draw) -> Case:
        shape = (draw(SIZE), draw(st.integers(2, 5)))
        kwargs = {
            "margin": draw(st.sampled_from([0.5, 1.0, 3.0])),
            "swap": draw(st.booleans()),
            "reduction": draw(REDUCTION),
        }
        if name == "TripletMarginLoss":
            kwargs["p"] = draw(st.sampled_from([1.0, 2.0, 3.0]))
        return case(name, (), [shape] * 3, kwargs)

    return make


def upsample(draw: Draw) -> Case:
    """Every mode, by size or by factor."""
    nd = draw(st.integers(1, 3))
    smooth = {1: ["linear"], 2: ["bilinear", "bicubic"], 3: ["trilinear"]}[nd]
    mode = draw(st.sampled_from(["nearest", *smooth]))
    kwargs: dict[str, Any] = {"mode": mode}
    if draw(st.booleans()):
        kwargs["size"] = tuple(draw(st.integers(1, 7)) for _ in range(nd))
    else:
        kwargs["scale_factor"] = draw(st.sampled_from([0.7, 1.5, 2.0]))
    if mode != "nearest":
        kwargs["align_corners"] = draw(st.booleans())
    return case("Upsample", (), maps(draw, nd, 2, 5), kwargs)


def upsampling(name: str) -> Callable[[Draw], Case]:
    """The two older layers."""

    def make(draw: Draw) -> Case:
        return case(name, (), maps(draw, 2, 2, 5), {"scale_factor": draw(st.integers(1, 3))})

    return make


OUTSIDE: dict[str, Callable[[Draw], Case]] = {
    "AdaptiveLogSoftmaxWithLoss": adaptive_softmax,
    "AlphaDropout": dropout("AlphaDropout", None, train=False),
    "ChannelShuffle": channel_shuffle,
    "CosineSimilarity": distance("CosineSimilarity"),
    "CrossMapLRN2d": cross_map,
    "Dropout": dropout("Dropout", None),
    "Dropout1d": dropout("Dropout1d", (2, 3)),
    "Dropout2d": dropout("Dropout2d", (4,)),
    "Dropout3d": dropout("Dropout3d", (5,)),
    "EmbeddingBag": embedding_bag,
    "FeatureAlphaDropout": dropout("FeatureAlphaDropout", (3, 4), train=False),
    "Flatten": flatten,
    "Fold": fold,
    "Hardsigmoid": hardsigmoid,
    **{f"LazyBatchNorm{nd}d": lazy(f"LazyBatchNorm{nd}d", nd) for nd in (1, 2, 3)},
    **{f"LazyInstanceNorm{nd}d": lazy(f"LazyInstanceNorm{nd}d", nd) for nd in (1, 2, 3)},
    "LazyLinear": lazy("LazyLinear", 0),
    **{f"MaxUnpool{nd}d": max_unpool(nd) for nd in (1, 2, 3)},
    "NLLLoss2d": nll,
    "PairwiseDistance": distance("PairwiseDistance"),
    "PixelShuffle": pixel("PixelShuffle"),
    "PixelUnshuffle": pixel("PixelUnshuffle"),
    "RReLU": rrelu,
    "SyncBatchNorm": sync_batch_norm,
    "TransformerDecoder": decoder,
    "TripletMarginLoss": triplet("TripletMarginLoss"),
    "TripletMarginWithDistanceLoss": triplet("TripletMarginWithDistanceLoss"),
    "Unflatten": unflatten,
    "Unfold": unfold,
    "Upsample": upsample,
    "UpsamplingBilinear2d": upsampling("UpsamplingBilinear2d"),
    "UpsamplingNearest2d": upsampling("UpsamplingNearest2d"),
}
