"""What single models of ``transformers`` need beyond a small configuration and plain inputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

__all__ = ["INPUTS", "SETTINGS"]

_SERIES = {"prediction_length": 4, "context_length": 8, "lags_sequence": [1, 2],
           "num_time_features": 1}  # fmt: skip
_SECTIONS = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]}
SETTINGS: dict[str, dict[str, Any]] = {
    "audio-spectrogram-transformer": {"max_length": 64},
    "autoformer": {**_SERIES, "moving_average": 3},
    "bamba": {"mamba_n_heads": 8, "mamba_d_head": 8},
    "deepseek_v2": {"num_experts_per_tok": 2},
    "ernie4_5_moe": {"moe_k": 2},
    "esm": {"vocab_size": 33, "pad_token_id": 1, "mask_token_id": 32},
    "falcon_h1": {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_ssm": 64},
    "granitemoehybrid": {"mamba_n_heads": 8, "mamba_d_head": 8},
    "hunyuan_v1_dense": {"head_dim": 8},
    "hunyuan_v1_moe": {"head_dim": 8},
    "informer": _SERIES,
    "lxmert": {"vocab_size": 99},
    "mamba2": {"num_heads": 8, "head_dim": 8},
    "ministral": {"head_dim": 8},
    "nemotron": {"num_key_value_heads": 4, "head_dim": 8},
    "qwen2_5_vl_text": {"rope_parameters": _SECTIONS},
    "qwen2_vl_text": {"rope_parameters": _SECTIONS},
    "time_series_transformer": _SERIES,
    "videomae": {"image_size": 32, "patch_size": 16, "num_frames": 4},
    "vivit": {"image_size": 32, "num_frames": 4},
    "xmod": {"default_language": "en_XX"},
}
"""Settings by the model's kind, over those of every model."""


def _series(config: Any) -> dict[str, torch.Tensor]:
    past = config.context_length + max(config.lags_sequence)
    return {
        "past_values": torch.randn(2, past),
        "past_time_features": torch.randn(2, past, config.num_time_features),
        "past_observed_mask": torch.ones(2, past),
        "future_values": torch.randn(2, config.prediction_length),
        "future_time_features": torch.randn(2, config.prediction_length, config.num_time_features),
    }


def _patches(config: Any) -> dict[str, torch.Tensor]:
    return {"past_values": torch.randn(2, config.context_length, config.num_input_channels)}


def _video(config: Any) -> dict[str, torch.Tensor]:
    side = config.image_size
    return {"pixel_values": torch.randn(2, config.num_frames, 3, side, side)}


def _speech(config: Any) -> dict[str, torch.Tensor]:
    size = config.input_feat_per_channel * config.input_channels
    return {
        "input_features": torch.randn(2, 60, size),
        "decoder_input_ids": torch.randint(3, 90, (2, 5)),
    }


def _sound(config: Any) -> dict[str, torch.Tensor]:
    return {"input_values": torch.randn(2, 1, 4000)}


def _looked_at(config: Any) -> dict[str, torch.Tensor]:
    return {
        "input_ids": torch.randint(3, 90, (2, 7)),
        "visual_feats": torch.randn(2, 4, config.visual_feat_dim),
        "visual_pos": torch.rand(2, 4, config.visual_pos_dim),
    }


INPUTS: dict[str, Callable[[Any], dict[str, torch.Tensor]]] = {
    "audio-spectrogram-transformer": lambda c: {
        "input_values": torch.randn(2, c.max_length, c.num_mel_bins)
    },
    "autoformer": _series,
    "encodec": _sound,
    "informer": _series,
    "lxmert": _looked_at,
    "mgp-str": lambda c: {"pixel_values": torch.randn(2, 3, 32, 128)},
    "mimi": _sound,
    "patchtsmixer": _patches,
    "patchtst": _patches,
    "speech_to_text": _speech,
    "time_series_transformer": _series,
    "timesformer": _video,
    "videomae": _video,
    "vilt": lambda c: {
        "input_ids": torch.randint(3, 90, (2, 7)),
        "pixel_values": torch.randn(2, 3, c.image_size, c.image_size),
    },
    "vivit": _video,
    "wav2vec2-bert": lambda c: {"input_features": torch.randn(2, 50, 160)},
}
"""Inputs by the model's kind, made from its configuration."""
