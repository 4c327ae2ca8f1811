"""Which torch modules become a layer of ``fluxmod.nn``, and with which constructor arguments.

The table is ``fluxmod.nn`` itself: a class of that name and with torch's arguments. A module counts
as such a layer only if nothing that computes was replaced: no method of its own, no hook, no
parametrization.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from flax import nnx

from fluxmod import nn

from . import overrides

__all__ = ["CONTAINERS", "Leaf", "by_name", "match", "torch_base"]

CONTAINERS = ("Sequential", "ModuleList", "ModuleDict", "ParameterList", "ParameterDict")
_HARMLESS = {
    "__init__",
    "__repr__",
    "__doc__",
    "__module__",
    "__annotations__",
    "__dict__",
    "__weakref__",
    "__constants__",
    "__static_attributes__",
    "__firstlineno__",
    "extra_repr",
    "reset_parameters",
}
_STACKS = (
    "Transformer",
    "TransformerEncoder",
    "TransformerDecoder",
    "TransformerEncoderLayer",
    "TransformerDecoderLayer",
)


@dataclass(frozen=True, slots=True)
class Leaf:
    """A layer of ``fluxmod.nn``: its class name and the arguments that build it.

    ``args`` maps the constructor's names to values, defaults left out; a value may be another Leaf.
    ``given`` is the class that the user put in the place of a module.
    """

    name: str
    args: dict[str, Any] = field(default_factory=dict)
    given: Any = None

    @property
    def twin(self) -> Any:
        """The class that is constructed."""
        return self.given or getattr(nn, self.name)

    @property
    def text(self) -> str:
        """The class as the written file names it."""
        return self.name if self.given else f"nn.{self.name}"

    @property
    def signature(self) -> dict[str, inspect.Parameter]:
        """The constructor's arguments that torch's layer has too."""
        return _signature(self.twin)

    @property
    def takes_rngs(self) -> bool:
        """Whether the constructor draws random numbers."""
        parameter = inspect.signature(self.twin.__init__).parameters.get("rngs")
        if parameter is None:
            return False
        needed = parameter.default is inspect.Parameter.empty
        return needed or "ropout" in self.name or self.name in ("RReLU", "FractionalMaxPool2d")

    def axes(self) -> nn.Axes:
        """How the layer's axes differ from torch's, by its own declaration."""
        return _declared(self) if self.given else _axes(self.name, _frozen(self.args))


def torch_base(cls: type) -> type | None:
    """The class of ``torch.nn`` that a module class is, if it computes nothing by itself."""
    for index, base in enumerate(cls.__mro__):
        if base.__module__.startswith("torch.nn.modules") and base is not torch.nn.Module:
            own = {name for c in cls.__mro__[:index] for name in vars(c)}
            replaced = {n for n in own - _HARMLESS if hasattr(base, n)}
            return None if replaced else base
    return None


def match(module: torch.nn.Module) -> Leaf | None:
    """Return the layer that a module is, or None if it has to be ported as code."""
    replacement = overrides.active().modules.get(id(module))
    if replacement is not None:
        args = overrides.arguments(replacement, module)
        return Leaf(replacement.__name__, args, replacement)
    base = torch_base(type(module))
    if base is None or base.__name__ in CONTAINERS or not hasattr(nn, base.__name__):
        return None
    if _is_changed(module):
        return None
    make = _SPECIAL.get(base.__name__, by_name)
    return make(base.__name__, module)


def _is_changed(module: torch.nn.Module) -> bool:
    """Whether hooks, parametrizations or instance attributes change what a module computes."""
    for each in module.modules():
        hooks = (each._forward_hooks, each._forward_pre_hooks)
        if any(hooks) or "forward" in vars(each) or hasattr(each, "parametrizations"):
            return True
        if each is not module and torch_base(type(each)) is None:
            return True
        if id(each) in overrides.active().modules:
            return True
    base = torch_base(type(module))
    reference = {name for name, value in module._parameters.items() if value is not None}
    known = _parameter_names(base)
    return known is not None and not reference <= known


@functools.lru_cache(maxsize=256)
def _parameter_names(base: Any) -> frozenset[str] | None:
    """Names of parameters that a torch layer may have, None where they are numbered."""
    if base is None or issubclass(base, torch.nn.RNNBase):
        return None
    return frozenset(
        {
            "weight",
            "bias",
            "in_proj_weight",
            "in_proj_bias",
            "bias_k",
            "bias_v",
            "q_proj_weight",
            "k_proj_weight",
            "v_proj_weight",
            "weight_ih",
            "weight_hh",
            "bias_ih",
            "bias_hh",
        }
    )


@functools.lru_cache(maxsize=512)
def _signature(cls: Any) -> dict[str, inspect.Parameter]:
    parameters = inspect.signature(cls.__init__).parameters
    skip = ("self", "rngs", "dtype", "param_dtype", "precision", "device", "args", "kwargs")
    return {n: p for n, p in parameters.items() if n not in skip}


def by_name(name: str, module: torch.nn.Module) -> Leaf | None:
    """Read every constructor argument from the attribute of its name."""
    args: dict[str, Any] = {}
    for argument, parameter in _signature(getattr(nn, name)).items():
        default = parameter.default
        if argument in ("channels_last", "inplace"):
            continue
        if argument == "bias" and "bias" in module._parameters:
            value: Any = module._parameters["bias"] is not None
            if (
                value is False
                and getattr(module, "affine", getattr(module, "elementwise_affine", True)) is False
            ):
                continue
        elif argument == "_weight" or not hasattr(module, argument):
            if default is inspect.Parameter.empty:
                return None
            continue
        else:
            value = getattr(module, argument)
        if isinstance(value, (list, torch.Size)):
            value = tuple(value)
        if default is inspect.Parameter.empty or not _equal(value, default):
            args[argument] = _compact(argument, value)
    return Leaf(name, args)


def _compact(argument: str, value: Any) -> Any:
    """Write (3, 3) as 3 where both mean the same."""
    numbers = isinstance(value, tuple) and len(set(value)) == 1
    spread = ("kernel_size", "stride", "padding", "dilation", "output_padding")
    if numbers and argument in spread and type(value[0]) is int:
        return value[0]
    if argument == "normalized_shape" and isinstance(value, tuple) and len(value) == 1:
        return value[0]
    return value


def _equal(value: Any, default: Any) -> bool:
    if isinstance(value, tuple) and isinstance(default, int):
        return all(v == default for v in value)
    return (
        type(value) is type(default)
        and value == default
        or (
            isinstance(value, (int, float))
            and isinstance(default, (int, float))
            and value == default
            and isinstance(value, bool) == isinstance(default, bool)
        )
    )


def _attention(name: str, m: Any) -> Leaf:
    args: dict[str, Any] = {"embed_dim": m.embed_dim, "num_heads": m.num_heads}
    if m.dropout:
        args["dropout"] = m.dropout
    if m.in_proj_bias is None:
        args["bias"] = False
    if m.bias_k is not None:
        args["add_bias_kv"] = True
    if m.add_zero_attn:
        args["add_zero_attn"] = True
    if m.kdim != m.embed_dim:
        args["kdim"] = m.kdim
    if m.vdim != m.embed_dim:
        args["vdim"] = m.vdim
    if m.batch_first:
        args["batch_first"] = True
    return Leaf(name, args)


def _transformer_layer(name: str, m: Any) -> Leaf | None:
    norms = [m.norm1, m.norm2]
    heads = m.self_attn
    args: dict[str, Any] = {"d_model": heads.embed_dim, "nhead": heads.num_heads}
    if m.linear1.out_features != 2048:
        args["dim_feedforward"] = m.linear1.out_features
    if m.dropout.p != 0.1:
        args["dropout"] = m.dropout.p
    activation = {torch.nn.functional.relu: "relu", torch.nn.functional.gelu: "gelu"}.get(
        m.activation
    )
    rates = {m.dropout.p, m.dropout1.p, m.dropout2.p, float(heads.dropout)}
    uniform = len({n.eps for n in norms}) == 1 and len({float(r) for r in rates}) == 1
    if activation is None or not uniform:
        return None
    if activation != "relu":
        args["activation"] = activation
    if m.norm1.eps != 1e-5:
        args["layer_norm_eps"] = m.norm1.eps
    if heads.batch_first:
        args["batch_first"] = True
    if m.norm_first:
        args["norm_first"] = True
    if m.linear1.bias is None:
        args["bias"] = False
    return Leaf(name, args)


def _transformer_stack(name: str, m: Any) -> Leaf | None:
    layers = [match(layer) for layer in m.layers]
    if not layers or layers[0] is None or any(layer != layers[0] for layer in layers):
        return None
    args: dict[str, Any] = {"layer": layers[0], "num_layers": len(layers)}
    key = "encoder_layer" if "Encoder" in name else "decoder_layer"
    args = {key: layers[0], "num_layers": len(layers)}
    if m.norm is not None:
        norm = match(m.norm)
        if norm is None:
            return None
        args["norm"] = norm
    return Leaf(name, args)


def _transformer(name: str, m: Any) -> Leaf | None:
    encoder, decoder = match(m.encoder), match(m.decoder)
    if encoder is None or decoder is None or encoder.name != "TransformerEncoder":
        return None
    layer = dict(encoder.args["encoder_layer"].args)
    if layer != decoder.args.get("decoder_layer", Leaf("", {})).args:
        return None
    args = {k: layer.pop(k) for k in ("d_model", "nhead")}
    for key, default in (("num_layers", 6),):
        counts = {"num_encoder_layers": encoder.args[key], "num_decoder_layers": decoder.args[key]}
        args |= {k: v for k, v in counts.items() if v != default}
    return Leaf(name, args | layer)


def _recurrent(name: str, m: Any) -> Leaf:
    args: dict[str, Any] = {"input_size": m.input_size, "hidden_size": m.hidden_size}
    plain = {
        "num_layers": 1,
        "nonlinearity": "tanh",
        "bias": True,
        "batch_first": False,
        "dropout": 0.0,
        "bidirectional": False,
        "proj_size": 0,
    }
    for key, default in plain.items():
        value = getattr(m, key, default)
        if value != default:
            args[key] = value
    return Leaf(name, args)


def _cell(name: str, m: Any) -> Leaf:
    args: dict[str, Any] = {"input_size": m.input_size, "hidden_size": m.hidden_size}
    if not m.bias:
        args["bias"] = False
    if getattr(m, "nonlinearity", "tanh") != "tanh":
        args["nonlinearity"] = m.nonlinearity
    return Leaf(name, args)


def _none(name: str, m: Any) -> None:
    return None


_SPECIAL: dict[str, Callable[[str, Any], Leaf | None]] = {
    "GRU": _recurrent,
    "GRUCell": _cell,
    "Identity": lambda name, m: Leaf(name),
    "LSTM": _recurrent,
    "LSTMCell": _cell,
    "MultiheadAttention": _attention,
    "PReLU": lambda name, m: Leaf(
        name, {} if m.num_parameters == 1 else {"num_parameters": m.num_parameters}
    ),
    "RNN": _recurrent,
    "RNNCell": _cell,
    "Transformer": _transformer,
    "TransformerDecoder": _transformer_stack,
    "TransformerDecoderLayer": _transformer_layer,
    "TransformerEncoder": _transformer_stack,
    "TransformerEncoderLayer": _transformer_layer,
}


def build(leaf: Leaf, rngs: Any) -> Any:
    """Construct the layer itself."""
    args = {k: build(v, rngs) if isinstance(v, Leaf) else v for k, v in leaf.args.items()}
    if "rngs" in inspect.signature(leaf.twin.__init__).parameters:
        args["rngs"] = rngs
    return leaf.twin(**args)


def _frozen(args: dict[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple(
        (k, (v.name, _frozen(v.args)) if isinstance(v, Leaf) else v) for k, v in args.items()
    )


@functools.lru_cache(maxsize=512)
def _axes(name: str, frozen: tuple[tuple[str, Any], ...]) -> nn.Axes:
    return nn.SAME if name in _STACKS else _declared(Leaf(name, dict(frozen)))


def _declared(leaf: Leaf) -> nn.Axes:
    """Ask an abstract instance: nothing is allocated."""
    layer = nnx.eval_shape(lambda: build(leaf, nnx.Rngs(0)))
    declared = getattr(layer, "axes", nn.SAME)
    return declared if isinstance(declared, nn.Axes) else nn.SAME
