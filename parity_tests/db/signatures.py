"""Argument names of torch's functions that have no signature to read."""

from __future__ import annotations

SIGNATURES = {
    name: tuple(names.split())
    for name, names in {
        "conv1d": "input weight bias stride padding dilation groups",
        "conv2d": "input weight bias stride padding dilation groups",
        "conv3d": "input weight bias stride padding dilation groups",
        "conv_transpose1d": "input weight bias stride padding output_padding groups dilation",
        "conv_transpose2d": "input weight bias stride padding output_padding groups dilation",
        "conv_transpose3d": "input weight bias stride padding output_padding groups dilation",
        "avg_pool1d": "input kernel_size stride padding ceil_mode count_include_pad",
        "avg_pool2d": (
            "input kernel_size stride padding ceil_mode count_include_pad divisor_override"
        ),
        "avg_pool3d": (
            "input kernel_size stride padding ceil_mode count_include_pad divisor_override"
        ),
        "max_pool1d": "input kernel_size stride padding dilation ceil_mode return_indices",
        "max_pool2d": "input kernel_size stride padding dilation ceil_mode return_indices",
        "max_pool3d": "input kernel_size stride padding dilation ceil_mode return_indices",
        "adaptive_max_pool1d": "input output_size return_indices",
        "adaptive_max_pool2d": "input output_size return_indices",
        "adaptive_max_pool3d": "input output_size return_indices",
        "fractional_max_pool2d": (
            "input kernel_size output_size output_ratio return_indices _random_samples"
        ),
        "fractional_max_pool3d": (
            "input kernel_size output_size output_ratio return_indices _random_samples"
        ),
        "adaptive_avg_pool1d": "input output_size",
        "linear": "input weight bias",
        "bilinear": "input1 input2 weight bias",
        "prelu": "input weight",
        "logsigmoid": "input",
        "gelu": "input approximate",
        "hardshrink": "input lambd",
        "softshrink": "input lambd",
        "softplus": "input beta threshold",
        "cosine_similarity": "x1 x2 dim eps",
        "pairwise_distance": "x1 x2 p eps keepdim",
        "pdist": "input p",
        "pixel_shuffle": "input upscale_factor",
        "pixel_unshuffle": "input downscale_factor",
        "channel_shuffle": "input groups",
        "one_hot": "input num_classes",
        "pad": "input pad mode value",
        "scaled_dot_product_attention": (
            "query key value attn_mask dropout_p is_causal scale enable_gqa"
        ),
    }.items()
}
