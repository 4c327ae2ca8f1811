"""Operators of torch.nn.functional."""

from __future__ import annotations

from typing import Any

import torch

from fluxmod.porter.ir import Op, Size, Value

from ._table import DTYPES, Scope, call, given, lower, tuple_text, value_of


def _plain(value: Any) -> str:
    if isinstance(value, (list, tuple)) and value and len(set(value)) == 1:
        return repr(value[0])
    return repr(tuple(value) if isinstance(value, list) else value)


def _pool(name: str, names: tuple[str, ...], defaults: dict[str, Any], **always: str) -> Any:
    def rule(s: Scope, op: Op) -> str:
        arguments = dict(zip(names, op.args[1:], strict=False)) | op.kwargs
        if arguments.get("stride") in ([], (), arguments.get("kernel_size")):
            arguments.pop("stride", None)
        first = names[0]
        extra = {}
        for key, value in arguments.items():
            if key == first or value == defaults.get(key):
                continue
            if isinstance(value, (list, tuple)) and all(v == defaults.get(key) for v in value):
                continue
            extra[key] = _plain(value)
        return call(f"F.{name}", s(op.args[0]), _sized(s, op, arguments[first]), **extra, **always)

    return rule


def _sized(s: Scope, op: Op, numbers: Any) -> str:
    """The first setting of a pooling: the source's expression where it is one number's."""
    hint = next(iter((op.hints.get("args") or [None, None])[1:2]), None)
    values = numbers if isinstance(numbers, (list, tuple)) else [numbers]
    if isinstance(hint, Size) and hint.form != ("lit",) and all(v == hint.value for v in values):
        if (text := s.try_size(hint)) is not None:  # type: ignore[attr-defined]
            return str(text)
    return _plain(numbers)


_MAX = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
_AVG = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")
_DEFAULTS = {"padding": 0, "dilation": 1, "ceil_mode": False, "count_include_pad": True,
             "divisor_override": None, "stride": None}  # fmt: skip
for _d in ("1d", "2d", "3d"):
    lower(f"max_pool{_d}")(_pool(f"max_pool{_d}", _MAX, _DEFAULTS))
    lower(f"max_pool{_d}_with_indices")(
        _pool(f"max_pool{_d}", _MAX, _DEFAULTS, return_indices="True")
    )
    lower(f"avg_pool{_d}")(_pool(f"avg_pool{_d}", _AVG, _DEFAULTS))
    lower(f"adaptive_avg_pool{_d}")(_pool(f"adaptive_avg_pool{_d}", ("output_size",), {}))
    lower(f"adaptive_max_pool{_d}")(
        _pool(f"adaptive_max_pool{_d}", ("output_size",), {}, return_indices="True")
    )


@lower("dropout", "alpha_dropout", "feature_alpha_dropout", "feature_dropout")
def _dropout(s: Scope, op: Op) -> str:
    name = op.name
    if name == "feature_dropout":
        maps = op.args[0].rank - 2
        if maps not in (1, 2, 3):
            raise NotImplementedError(f"feature_dropout of {op.args[0].rank} axes")
        name = f"dropout{maps}d"
    if name == "feature_alpha_dropout" and op.args[0].rank < 2:
        raise NotImplementedError(f"feature_alpha_dropout of {op.args[0].rank} axes")
    p = s.number(op, 1)
    training = s.training(op, 2)  # type: ignore[attr-defined]
    return call(f"F.{name}", s(op.args[0]), p, training, rngs=s.rngs())


@lower("layer_norm")
def _layer_norm(s: Scope, op: Op) -> str:
    shape = op.args[1]
    weight, bias = given(op, 2, "weight"), given(op, 3, "bias")
    eps = given(op, 4, "eps", 1e-5)
    return call(
        "F.layer_norm", s(op.args[0]), tuple_text(s.sizes(op)) if shape else "()",
        "None" if weight is None and bias is not None else "" if weight is None else s(weight),
        "" if bias is None else s(bias), eps=None if eps == 1e-5 else repr(eps),
    )  # fmt: skip


@lower("rms_norm")
def _rms_norm(s: Scope, op: Op) -> str:
    weight, eps = given(op, 2, "weight"), given(op, 3, "eps")
    return call(
        "F.rms_norm", s(op.args[0]), tuple_text(s.sizes(op)),
        "" if weight is None else s(weight), eps=None if eps is None else repr(eps),
    )  # fmt: skip


@lower("group_norm")
def _group_norm(s: Scope, op: Op) -> str:
    weight, bias = given(op, 2, "weight"), given(op, 3, "bias")
    eps = given(op, 4, "eps", 1e-5)
    return call(
        "F.group_norm", s(op.args[0]), s.number(op, 1), "" if weight is None else s(weight),
        "" if bias is None else s(bias), eps=None if eps == 1e-5 else repr(eps),
    )  # fmt: skip


@lower("scaled_dot_product_attention")
def _attention(s: Scope, op: Op) -> str:
    query, key, value = op.args[:3]
    mask, p = given(op, 3, "attn_mask"), given(op, 4, "dropout_p", 0.0)
    dropout = s.dropout_p(op, p)  # type: ignore[attr-defined]
    scale = op.kwargs.get("scale")
    return call(
        "F.scaled_dot_product_attention", s(query), s(key), s(value),
        attn_mask=None if mask is None else s(mask),
        dropout_p=dropout,
        is_causal="True" if given(op, 5, "is_causal", False) else None,
        scale=None if scale is None else s.number(op, 99, "scale"),
        enable_gqa="True" if op.kwargs.get("enable_gqa") else None,
        rngs=s.rngs() if dropout else None,
    )  # fmt: skip


@lower("embedding")
def _embedding(s: Scope, op: Op) -> str:
    table, index = op.args[:2]
    padding = given(op, 2, "padding_idx", -1)
    by_count = given(op, 3, "scale_grad_by_freq", False)
    return call(
        "F.embedding", s(index), s(table), padding_idx=None if padding == -1 else s(padding),
        scale_grad_by_freq="True" if by_count else None,
    )  # fmt: skip


_CONV = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1}
_TRANSPOSED = {"stride": 1, "padding": 0, "output_padding": 0, "groups": 1, "dilation": 1}


def _conv(name: str, spatial: int, settings: dict[str, int]) -> Any:
    """A convolution; ``settings`` are the arguments after the bias, in torch's order."""
    perm = (*range(2, 2 + spatial), 1, 0)

    def rule(s: Scope, op: Op) -> str:
        arguments = dict(zip(("bias", *settings), op.args[2:], strict=False)) | op.kwargs
        bias = arguments.pop("bias", None)
        extra = {}
        for key, value in arguments.items():
            values = value if isinstance(value, (list, tuple)) else [value]
            if any(v != settings[key] for v in values):
                extra[key] = _plain(value)
        kernel = s.permuted(op.args[1], perm)  # type: ignore[attr-defined]
        return call(f"F.{name}", s(op.args[0]), kernel, "" if bias is None else s(bias), **extra)

    return rule


for _n in (1, 2, 3):
    lower(f"conv{_n}d")(_conv(f"conv{_n}d", _n, _CONV))
    lower(f"conv_transpose{_n}d")(_conv(f"conv_transpose{_n}d", _n, _TRANSPOSED))


@lower("constant_pad_nd", "pad")
def _pad(s: Scope, op: Op) -> str:
    value, amounts = op.args[:2]
    mode = given(op, 2, "mode", "constant") if op.name == "pad" else "constant"
    fill = given(op, 3, "value", 0) if op.name == "pad" else given(op, 2, "value", 0)
    if any(value_of(a) < 0 for a in amounts):
        if value.order not in (None, tuple(range(value.rank))):
            raise NotImplementedError("cropping a channels-last map by a negative padding")
        plain = tuple(value_of(a) for a in amounts)
        return call(
            "F.pad", s(value), str(plain), mode=None if mode == "constant" else repr(mode),
            value=None if fill in (0, None, 0.0) else s(fill),
        )  # fmt: skip
    hints = op.hints.get("sizes") or [None] * len(amounts)
    texts = [_amount(s, a, hint) for a, hint in zip(amounts, hints, strict=True)]
    pairs = [f"({texts[2 * i]}, {texts[2 * i + 1]})" for i in range(len(texts) // 2)][::-1]
    pairs = ["(0, 0)"] * (value.rank - len(pairs)) + pairs
    modes = {"reflect": "reflect", "replicate": "edge", "circular": "wrap", "constant": None}
    shown = modes[mode]
    return call(
        "jnp.pad", s(value), tuple_text(pairs), mode=shown and repr(shown),
        constant_values=None if fill in (0, None, 0.0) else s(fill),
    )  # fmt: skip


def _amount(s: Scope, amount: Any, hint: Any) -> str:
    """One amount of a padding, as the source computes it from shapes where it does."""
    if isinstance(hint, Size) and hint.form != ("lit",) and hint.value == value_of(amount):
        if (text := s.try_size(hint)) is not None:  # type: ignore[attr-defined]
            return str(text)
    return s(amount) if isinstance(amount, Size) else repr(amount)


@lower("pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "native_channel_shuffle")
def _shuffle(s: Scope, op: Op) -> str:
    return call(f"F.{op.name.removeprefix('native_')}", s(op.args[0]), s.number(op, 1))


def _interpolate(mode: str) -> Any:
    def rule(s: Scope, op: Op) -> str:
        size = given(op, 1, "output_size")
        factors = op.args[-1] if isinstance(op.args[-1], (list, tuple)) and size is None else None
        corners = next((a for a in op.args[2:] if isinstance(a, bool)), None)
        keywords: dict[str, Any] = {}
        scales = [] if corners else [a for a in op.args[2:] if isinstance(a, float)]
        if size is not None and scales:
            keywords["scale_factor"] = _plain(_belonging(op, scales))
        elif size is not None:
            keywords["size"] = tuple_text(s.sizes(op))
        elif factors is not None:
            keywords["scale_factor"] = _plain(factors)
        return call(
            "F.interpolate", s(op.args[0]), **keywords,
            mode=None if mode == "nearest" else repr(mode),
            align_corners="True" if corners else None,
            antialias="True" if op.name.endswith("_aa") else None,
        )  # fmt: skip

    return rule


def _belonging(op: Op, scales: list[float]) -> list[float]:
    """The factors that an operator got beside a size, if they are those that give it."""
    sizes = [value_of(n) for n in op.args[0].shape[2:]]
    given = [int(n * f) for n, f in zip(sizes, scales, strict=True)]
    if given != [value_of(n) for n in op.out.shape[2:]]:
        raise NotImplementedError(f"{op.name} to a size, by factors that give another")
    return scales


for _op, _mode in {
    "upsample_nearest1d": "nearest", "upsample_nearest2d": "nearest",
    "upsample_nearest3d": "nearest", "upsample_linear1d": "linear",
    "upsample_bilinear2d": "bilinear", "upsample_trilinear3d": "trilinear",
    "upsample_bicubic2d": "bicubic", "_upsample_bilinear2d_aa": "bilinear",
    "_upsample_bicubic2d_aa": "bicubic", "_upsample_nearest_exact1d": "nearest-exact",
    "_upsample_nearest_exact2d": "nearest-exact", "_upsample_nearest_exact3d": "nearest-exact",
}.items():  # fmt: skip
    lower(_op)(_interpolate(_mode))


@lower("glu")
def _glu(s: Scope, op: Op) -> str:
    dim = given(op, 1, "dim", -1)
    return call("F.glu", s(op.args[0]), dim=None if dim == -1 else str(dim))


@lower("prelu")
def _prelu(s: Scope, op: Op) -> str:
    return call("F.prelu", s(op.args[0]), s(op.args[1]))


@lower("bernoulli")
def _bernoulli(s: Scope, op: Op) -> str:
    like, given_p = op.args[0], len(op.args) > 1
    if op.target == "bernoulli.default" or (given_p and isinstance(op.args[1], Value)):
        p = s(op.args[-1])
        return call("random.bernoulli", s.rngs(), p, f"{s(like)}.shape", f"{s(like)}.dtype")
    p = s.number(op, 1, default=0.5)
    made = like.producer
    if isinstance(made, Op) and made.name in ("new_empty", "empty", "new_zeros", "zeros"):
        shape = tuple_text(s.sizes(made, 1 if made.name.startswith("new_") else 0))
    else:
        shape = f"{s(like)}.shape"
    dtype = None if op.out.dtype == torch.get_default_dtype() else DTYPES[op.out.dtype]
    return call("random.bernoulli", s.rngs(), p, shape, dtype=dtype)


@lower("affine_grid_generator")
def _affine_grid(s: Scope, op: Op) -> str:
    sizes = s.sizes(op, 1)
    shape = ", ".join([sizes[0], *sizes[2:], sizes[1]])
    corners = "True" if op.args[2] else "False"
    return call("F.affine_grid", s(op.args[0]), f"({shape})", align_corners=corners)


@lower("grid_sampler", "grid_sampler_2d", "grid_sampler_3d")
def _grid_sample(s: Scope, op: Op) -> str:
    value, grid, mode, padding, corners = op.args
    modes, paddings = ("bilinear", "nearest", "bicubic"), ("zeros", "border", "reflection")
    return call(
        "F.grid_sample", s(value), s(grid),
        mode=repr(modes[mode]) if mode else None,
        padding_mode=repr(paddings[padding]) if padding else None,
        align_corners="True" if corners else "False",
    )  # fmt: skip


@lower("cosine_similarity")
def _cosine(s: Scope, op: Op) -> str:
    return call(
        "F.cosine_similarity", s(op.args[0]), s(op.args[1]), *(repr(a) for a in op.args[2:])
    )
