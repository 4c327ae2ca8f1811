"""Models of ``transformers``, ``timm`` and ``torchvision``, small where they allow it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import torch

from .public_settings import INPUTS, SETTINGS

__all__ = ["every"]

# --- transformers ---------------------------------------------------------------------------------

# By what an attribute's name contains, the first that fits; whole words of it in the second table.
SMALL = {
    "num_experts_per_tok": 2, "moe_topk": 2, "top_k": 2, "expert": 4,
    "key_value_heads": 2, "kv_heads": 2, "head_dim": 8, "heads": 4, "n_head": 4,
    "num_hidden_layers": 2, "n_layer": 2, "num_layers": 2, "encoder_layers": 2,
    "decoder_layers": 2, "hidden_layers": 2,
    "intermediate": 64, "ffn_dim": 64, "ffn_size": 64, "d_ff": 64, "mlp_dim": 64, "n_inner": 64,
    "feed_forward": 64, "hidden_dim": 64,
    "hidden_size": 32, "d_model": 32, "n_embd": 32, "embed_dim": 32, "embedding_size": 32,
    "projection_dim": 32, "vocab_size": 99,
}  # fmt: skip
EXACT = {
    "dim": 32, "d_kv": 8, "image_size": 32, "patch_size": 8, "num_mel_bins": 80, "emb_dim": 32,
    "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "qk_head_dim": 16, "v_head_dim": 8,
    "kv_lora_rank": 16, "q_lora_rank": 16, "n_group": 1, "topk_group": 1, "rotary_dim": 4,
    "num_queries": 20,
}  # fmt: skip
_KEPT = (
    "type_vocab_size",
    "hidden_size_mult",
    "rotary",
    "qk_",
    "rope",
    "v_head",
    "conv",
    "num_codebooks",
)


_DEPTHS = (
    "num_hidden_layers", "n_layer", "n_layers", "num_layers", "encoder_layers", "decoder_layers",
    "num_encoder_layers", "num_decoder_layers",
)  # fmt: skip


def _settings(config: Any, seen: set[int]) -> Iterator[tuple[Any, str, Any]]:
    """Every setting of a configuration and of those within it."""
    seen.add(id(config))
    for name, value in list(vars(config).items()):
        if not hasattr(value, "model_type"):
            yield config, name, value
        elif id(value) not in seen:
            yield from _settings(value, seen)


def shrink(config: Any) -> None:
    """Make the sizes of a configuration small, in place."""
    for owner, name, value in _settings(config, set()):
        if name.endswith("_token_id") and isinstance(value, int) and value > 90:
            setattr(owner, name, 2)
        elif name in EXACT and type(value) is int:
            setattr(owner, name, min(value, EXACT[name]))
        elif type(value) is int and value > 2 and not any(word in name for word in _KEPT):
            small = next((n for word, n in SMALL.items() if word in name), None)
            if small is not None and small < value:
                setattr(owner, name, small)
        elif isinstance(value, dict) and "mrope_section" in value:  # of head_dim // 2
            value["mrope_section"] = [2, 1, 1]
        elif name == "layer_types" and isinstance(value, list):
            kinds = list(dict.fromkeys(value))
            count = getattr(owner, "num_hidden_layers", 2)
            owner.layer_types = [kinds[i % len(kinds)] for i in range(count)]
        elif name == "depths" and isinstance(value, (list, tuple)):
            owner.depths = type(value)(1 for _ in value)
    for owner, name, _ in list(_settings(config, set())):
        if name == "qk_rope_head_dim":  # latent attention has as many keys as queries
            owner.num_key_value_heads = owner.num_attention_heads


def shallow(config: Any) -> None:
    """Fewer layers alone."""
    for owner, name, value in _settings(config, set()):
        if name in _DEPTHS and type(value) is int and value > 2:
            setattr(owner, name, 2)


def hugging_face() -> dict[str, Callable[[], Any]]:
    """Every model type that has a base class."""
    from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES

    return {f"transformers: {kind}": _transformer(kind) for kind in sorted(MODEL_MAPPING_NAMES)}


def _transformer(kind: str) -> Callable[[], Any]:
    def make() -> Any:
        import transformers

        transformers.logging.set_verbosity_error()
        why = "no configuration without arguments"
        for change in (shrink, shallow):
            try:
                config = _config(kind)
                change(config)
                config.use_cache = False
                for name, value in SETTINGS.get(kind, {}).items():
                    setattr(config, name, value)
                with torch.device("meta"):
                    size = sum(
                        p.numel() for p in transformers.AutoModel.from_config(config).parameters()
                    )
                if size > 100e6:
                    raise ValueError(f"{size / 1e6:.0f} million parameters")
                torch.manual_seed(0)
                model = transformers.AutoModel.from_config(config).eval()
                _decide(model)
                inputs = INPUTS[kind](config) if kind in INPUTS else _inputs(model, config)
                with torch.no_grad():
                    model(**inputs)
                return model, (), inputs
            except Exception as error:  # a configuration of ours that the model does not take
                why = f"{type(error).__name__}: {str(error).strip().splitlines()[:1]}"
        raise LookupError(why)

    return make


def _config(kind: str) -> Any:
    """The configuration with our settings, alone where they do not fit its other sizes yet."""
    from transformers import AutoConfig

    try:
        return AutoConfig.for_model(kind, **SETTINGS.get(kind, {}))
    except Exception:  # they are set once the others are small too
        return AutoConfig.for_model(kind)


def _decide(model: Any) -> None:
    """Draw routers that start as zeros: among equal scores torch leaves the choice open."""
    for weight in model.parameters():
        if weight.dim() == 2 and not weight.any():
            torch.nn.init.normal_(weight, std=0.02)


def _setting(config: Any, *names: str, default: int) -> int:
    for each in (config, *(v for v in vars(config).values() if hasattr(v, "model_type"))):
        for name in names:
            value = getattr(each, name, None)
            if isinstance(value, (list, tuple)) and value:
                value = value[0]
            if type(value) is int:
                return value
    return default


def _inputs(model: Any, config: Any) -> dict[str, torch.Tensor]:
    """An example of what ``forward`` takes, by the names that transformers uses."""
    taken = inspect.signature(model.forward).parameters
    tokens = min(_setting(config, "vocab_size", default=99), 99)
    side = _setting(config, "image_size", default=64)
    side = side if isinstance(side, int) else side[0]
    channels = _setting(config, "num_channels", "in_channels", default=3)
    mels = _setting(config, "num_mel_bins", "feature_size", "input_feat_per_channel", default=80)
    length = 2 * _setting(config, "max_source_positions", default=50)
    made = {
        "input_ids": lambda: torch.randint(3, tokens - 3, (2, 7)),
        "decoder_input_ids": lambda: torch.randint(3, tokens - 3, (2, 5)),
        "pixel_values": lambda: torch.randn(2, channels, side, side),
        "input_values": lambda: torch.randn(2, 4000),
        "input_features": lambda: torch.randn(2, mels, length),
        "bbox": lambda: torch.randint(0, 50, (2, 7, 2)).repeat(1, 1, 2).sort(-1).values,
    }
    main = getattr(model, "main_input_name", "input_ids")
    names = [main] if main in made else []
    if "decoder_input_ids" in taken and getattr(config, "is_encoder_decoder", False):
        names.append("decoder_input_ids")
    names += [n for n in ("bbox",) if n in taken]
    if (
        "pixel_values" in taken
        and hasattr(config, "vision_config")
        and hasattr(config, "projection_dim")
    ):
        names.append("pixel_values")
    names += [
        n for n, p in taken.items()
        if n in made and p.default is inspect.Parameter.empty
    ]  # fmt: skip
    return {name: made[name]() for name in dict.fromkeys(names)}


# --- timm and torchvision -------------------------------------------------------------------------


def timm_models() -> dict[str, Callable[[], Any]]:
    """The first model of every architecture of timm, at a small image where it allows one."""
    try:
        import timm
    except Exception:  # not installed, or not for this torch
        return {}
    found: dict[str, str] = {}
    for name in timm.list_models():
        found.setdefault(timm.model_entrypoint(name).__module__, name)
    return {f"timm: {name}": _timm(name) for name in found.values()}


def _timm(name: str) -> Callable[[], Any]:
    def make() -> Any:
        import timm

        torch.manual_seed(0)
        model = timm.create_model(name, num_classes=10).eval()
        channels, *size = model.default_cfg.get("input_size", (3, 224, 224))
        if max(size) > 384:
            size = [256, 256]
        return model, (torch.randn(2, channels, *size),), {}

    return make


def vision_models() -> dict[str, Callable[[], Any]]:
    """The smallest model of every file of torchvision; detection has no fixed shapes."""
    try:
        import torchvision
    except Exception:
        return {}
    found: dict[str, tuple[int, str]] = {}
    for name in torchvision.models.list_models():
        build = torchvision.models.get_model_builder(name)
        size = torchvision.models.get_model_weights(name).DEFAULT.meta["num_params"]
        if "detection" not in build.__module__ and "quantiz" not in build.__module__:
            known = found.get(build.__module__, (size, name))
            found[build.__module__] = min(known, (size, name))
    return {f"torchvision: {name}": _vision(name) for _, name in found.values()}


def _vision(name: str) -> Callable[[], Any]:
    def make() -> Any:
        import torchvision

        torch.manual_seed(0)
        inner = {"weights_backbone": None} if name.startswith(("deeplab", "fcn", "lraspp")) else {}
        model = torchvision.models.get_model(name, weights=None, **inner).eval()
        return model, _images(name), {}

    return make


def _images(name: str) -> tuple[torch.Tensor, ...]:
    if "raft" in name:
        return torch.randn(2, 3, 128, 128), torch.randn(2, 3, 128, 128)
    if name.startswith(("r3d", "mc3")):
        return (torch.randn(1, 3, 8, 56, 56),)
    if any(word in name for word in ("s3d", "mvit", "swin3d")):
        return (torch.randn(1, 3, 16, 224, 224),)
    side = 299 if "inception" in name else 224 if "vit" in name or "swin" in name else 64
    return (torch.randn(2, 3, side, side),)


def every() -> dict[str, Callable[[], Any]]:
    """How every public model is made, by name."""
    return hugging_face() | timm_models() | vision_models()
