"""multi_head_attention_forward against torch: its samples, and what the layer does not reach."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
import torch

from fluxmod.nn import functional as F
from parity_tests.nn.functional.both import equal, torch_samples

THEIRS = torch.nn.functional.multi_head_attention_forward
SAMPLES = 192


def ours(**arguments):
    """Call the Flax function with torch's weights."""
    renamed = {}
    for name, value in arguments.items():
        if name.endswith("proj_weight") and name != "use_separate_proj_weight":
            renamed[name.replace("_weight", "_kernel")] = None if value is None else value.T
        else:
            renamed[name] = value
    return F.multi_head_attention_forward(**renamed)


def split(arguments):
    """Arrays by name, and everything else."""
    arrays = {k: v for k, v in arguments.items() if isinstance(v, np.ndarray)}
    return arrays, {k: v for k, v in arguments.items() if k not in arrays}


def test_torchs_own_samples(request):
    """Every 12th of torch's samples, all of them with --samples=all."""
    names = ("query", "key", "value", "embed_dim_to_check", "num_heads", "in_proj_weight",
             "in_proj_bias", "bias_k", "bias_v", "add_zero_attn", "dropout_p", "out_proj_weight",
             "out_proj_bias")  # fmt: skip
    samples = torch_samples("nn.functional.multi_head_attention_forward")
    assert len(samples) == SAMPLES
    step = 1 if request.config.getoption("--samples") == "all" else 12
    for index in range(0, SAMPLES, step):
        inputs, kwargs = samples[index]
        arrays, rest = split(dict(zip(names, inputs, strict=True)) | kwargs)
        masks = equal(THEIRS, ours, arrays, **rest)
        assert len(masks) == (rest["dropout_p"] > 0), index


# L 4, S 6, N 2, E 8, H 2
def arguments(**changes):
    rng = np.random.default_rng(0)
    base = {
        "query": rng.standard_normal((4, 2, 8)),
        "key": rng.standard_normal((6, 2, 8)),
        "value": rng.standard_normal((6, 2, 8)),
        "embed_dim_to_check": 8,
        "num_heads": 2,
        "in_proj_weight": rng.standard_normal((24, 8)),
        "in_proj_bias": rng.standard_normal(24),
        "bias_k": None,
        "bias_v": None,
        "add_zero_attn": False,
        "dropout_p": 0.0,
        "out_proj_weight": rng.standard_normal((8, 8)),
        "out_proj_bias": rng.standard_normal(8),
    }
    return base | changes


STATIC = np.random.default_rng(1).standard_normal((4, 6, 4))
PADDED = np.array([[False] * 6, [False] * 3 + [True] * 3])
CASES = {
    "static-key": {"static_k": STATIC},
    "static-both-of-other-length": {"static_k": STATIC[:, :5], "static_v": STATIC[:, 1:]},
    "static-zero-attn": {"static_v": STATIC, "add_zero_attn": True, "key_padding_mask": PADDED},
    "static-no-weights": {"static_k": STATIC, "static_v": STATIC, "need_weights": False},
    "not-training": {"dropout_p": 0.5, "training": False},
    "wide-output": {"out_proj_weight": STATIC.reshape(12, 8), "out_proj_bias": None},
}


@pytest.mark.parametrize("id", CASES)
def test_outputs_and_gradients(id):
    arrays, rest = split(arguments(**CASES[id]))
    equal(THEIRS, ours, arrays, **rest)


@pytest.mark.parametrize("need_weights", [False, True])
def test_batch_first_only_moves_axes(need_weights):
    given, rest = split(arguments(key_padding_mask=PADDED, need_weights=need_weights))
    here = {k: jnp.asarray(v) for k, v in given.items()}
    out, weights = ours(**here, **rest)
    for name in ("query", "key", "value"):
        here[name] = jnp.swapaxes(here[name], 0, 1)
    moved, same_weights = ours(**here, **rest, batch_first=True)
    np.testing.assert_array_equal(jnp.swapaxes(moved, 0, 1), out)
    assert (weights is None) == (not need_weights)
    if need_weights:
        np.testing.assert_array_equal(weights, same_weights)


ROW = np.zeros((1, 1, 8))
REFUSED = {
    "no-kernel": ({"in_proj_weight": None}, "must be given"),
    "one-row": ({"bias_k": ROW}, "go together"),
    "row-and-static": ({"bias_k": ROW, "bias_v": ROW, "static_k": STATIC}, "excludes bias_k"),
    "static-heads": ({"static_k": STATIC[:3]}, r"static_k must be \(4, S, 4\)"),
    "static-width": ({"static_v": STATIC[..., :3]}, r"static_v must be \(4, S, 4\)"),
    "embedding": ({"embed_dim_to_check": 6}, "must have 6 features"),
    "heads": ({"num_heads": 3}, "divisible by num_heads 3"),
}


@pytest.mark.parametrize("id", REFUSED)
def test_both_refuse(id):
    changes, text = REFUSED[id]
    arrays, rest = split(arguments(**changes))
    with pytest.raises((AssertionError, RuntimeError)):
        THEIRS(**{k: torch.from_numpy(v) for k, v in arrays.items()}, **rest)
    with pytest.raises(ValueError, match=text):
        ours(**{k: jnp.asarray(v) for k, v in arrays.items()}, **rest)


def test_everything_wrong_is_said_at_once():
    arrays, rest = split(arguments(num_heads=3, bias_k=ROW, key=np.zeros((5, 1, 8))))
    with pytest.raises(ValueError, match="(?s)num_heads 3.*length: 5 and 6.*batch.*go together"):
        ours(**{k: jnp.asarray(v) for k, v in arrays.items()}, **rest)
