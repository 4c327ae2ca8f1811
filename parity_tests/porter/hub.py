"""Small configurations of models of ``transformers``, with random weights and example inputs."""

from __future__ import annotations

from typing import Any

import torch

__all__ = ["HUB", "make"]

_BODY = {
    "vocab_size": 99,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
}
_TEXT = {**_BODY, "max_position_embeddings": 40}
_DECODER = {**_TEXT, "num_key_value_heads": 2, "use_cache": False}
_VISION = {k: v for k, v in _BODY.items() if k != "vocab_size"} | {
    "image_size": 16,
    "patch_size": 4,
}
_ENCODER_DECODER = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
}

HUB: dict[str, tuple[str, dict[str, Any], dict[str, tuple[Any, ...]]]] = {
    "bert": (
        "BertModel",
        _TEXT,
        {"input_ids": (int, 2, 7), "attention_mask": (bool, 2, 7)},
    ),
    "clip": (
        "CLIPModel",
        {
            "text_config": {**_TEXT, "eos_token_id": 2, "bos_token_id": 1, "pad_token_id": 0},
            "vision_config": _VISION,
            "projection_dim": 16,
        },
        {
            "input_ids": (int, 2, 7),
            "pixel_values": (float, 2, 3, 16, 16),
            "attention_mask": (bool, 2, 7),
        },
    ),
    "detr": (
        "DetrForObjectDetection",
        {
            **_ENCODER_DECODER,
            "num_queries": 5,
            "num_labels": 3,
            "use_timm_backbone": False,
            "use_pretrained_backbone": False,
            "backbone": None,
            "backbone_config": {
                "model_type": "resnet",
                "embedding_size": 8,
                "hidden_sizes": [8, 16],
                "depths": [1, 1],
                "layer_type": "basic",
                "out_features": ["stage2"],
            },
        },
        {"pixel_values": (float, 2, 3, 32, 32)},
    ),
    "distilbert": (
        "DistilBertModel",
        {
            "vocab_size": 99,
            "dim": 32,
            "n_layers": 2,
            "n_heads": 4,
            "hidden_dim": 64,
            "max_position_embeddings": 40,
        },
        {"input_ids": (int, 2, 7)},
    ),
    "gpt2": (
        "GPT2LMHeadModel",
        {
            "vocab_size": 99,
            "n_positions": 40,
            "n_embd": 32,
            "n_layer": 2,
            "n_head": 4,
            "use_cache": False,
        },
        {"input_ids": (int, 2, 7)},
    ),
    "llama": ("LlamaForCausalLM", _DECODER, {"input_ids": (int, 2, 7)}),
    "mamba": (
        "MambaForCausalLM",
        {
            "vocab_size": 99,
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "state_size": 4,
            "use_cache": False,
        },
        {"input_ids": (int, 2, 7)},
    ),
    "mistral": ("MistralForCausalLM", _DECODER, {"input_ids": (int, 2, 7)}),
    "mixtral": (
        "MixtralForCausalLM",
        {**_DECODER, "num_local_experts": 4},
        {"input_ids": (int, 2, 7)},
    ),
    "qwen2": ("Qwen2ForCausalLM", _DECODER, {"input_ids": (int, 2, 7)}),
    "roberta": ("RobertaModel", _TEXT, {"input_ids": (int, 2, 7)}),
    "swin": (
        "SwinModel",
        {
            "image_size": 32,
            "patch_size": 4,
            "embed_dim": 16,
            "depths": [1, 1],
            "num_heads": [2, 4],
            "window_size": 4,
        },
        {"pixel_values": (float, 2, 3, 32, 32)},
    ),
    "t5": (
        "T5ForConditionalGeneration",
        {
            "vocab_size": 99,
            "d_model": 32,
            "d_kv": 8,
            "d_ff": 64,
            "num_layers": 2,
            "num_heads": 4,
            "use_cache": False,
        },
        {"input_ids": (int, 2, 7), "decoder_input_ids": (int, 2, 5)},
    ),
    "vit": ("ViTForImageClassification", _VISION, {"pixel_values": (float, 2, 3, 16, 16)}),
    "wav2vec2": (
        "Wav2Vec2Model",
        {
            **_BODY,
            "conv_dim": (16, 16),
            "conv_stride": (5, 2),
            "conv_kernel": (10, 3),
            "num_feat_extract_layers": 2,
            "num_conv_pos_embeddings": 16,
            "num_conv_pos_embedding_groups": 4,
            "mask_time_prob": 0.0,
            "layerdrop": 0.0,
        },
        {"input_values": (float, 2, 400)},
    ),
    "whisper": (
        "WhisperModel",
        {
            "vocab_size": 99,
            **_ENCODER_DECODER,
            "num_mel_bins": 8,
            "max_source_positions": 20,
            "max_target_positions": 20,
            "use_cache": False,
            "pad_token_id": 0,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "decoder_start_token_id": 1,
        },
        {"input_features": (float, 2, 8, 40), "decoder_input_ids": (int, 2, 5)},
    ),
}
"""Class, settings of its configuration, and inputs as kind and shape."""


def make(name: str) -> tuple[torch.nn.Module, dict[str, torch.Tensor]]:
    """A model in evaluation mode, and its inputs by keyword."""
    import transformers

    transformers.logging.set_verbosity_error()
    kind, settings, inputs = HUB[name]
    torch.manual_seed(0)
    cls = getattr(transformers, kind)
    model = cls(cls.config_class(**settings)).eval()
    return model, {key: _tensor(*spec) for key, spec in inputs.items()}


def _tensor(kind: type, *shape: int) -> torch.Tensor:
    if kind is float:
        return torch.randn(shape)
    return torch.randint(3, 90, shape) if kind is int else torch.ones(shape, dtype=torch.long)
