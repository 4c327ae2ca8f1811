"""Moving channels into space and back, and among groups."""

from __future__ import annotations

import jax
import jax.numpy as jnp  # noqa: F401 - used by the doctests

__all__ = ["channel_shuffle", "native_channel_shuffle", "pixel_shuffle", "pixel_unshuffle"]


def pixel_shuffle(input: jax.Array, upscale_factor: int) -> jax.Array:
    """Spread groups of ``r * r`` channels over blocks of pixels.

    The twin of ``torch.nn.functional.pixel_shuffle``.

    Shape:
        input: (*, H, W, C * r * r); returns (*, H * r, W * r, C).

    Raises:
        ValueError: fewer than three axes, a factor that is not positive, channels it does not
            divide.

    >>> pixel_shuffle(jnp.arange(4.0).reshape(1, 1, 4), 2)[:, :, 0].tolist()
    [[0.0, 1.0], [2.0, 3.0]]

    Source: torch.nn.functional.pixel_shuffle, PyTorch 2.13 documentation.
    """
    r = _factor(input, upscale_factor, "pixel_shuffle", "upscale_factor")
    *batch, height, width, channels = input.shape
    if channels % (r * r):
        raise ValueError(
            f"pixel_shuffle: {channels} channels (last axis of {tuple(input.shape)}) are not a "
            f"multiple of upscale_factor^2 = {r * r}."
        )
    n = len(batch)
    split = input.reshape(*batch, height, width, channels // (r * r), r, r)
    moved = split.transpose(*range(n), n, n + 3, n + 1, n + 4, n + 2)
    return moved.reshape(*batch, height * r, width * r, channels // (r * r))


def pixel_unshuffle(input: jax.Array, downscale_factor: int) -> jax.Array:
    """Gather blocks of ``r * r`` pixels into channels; undoes ``pixel_shuffle``.

    The twin of ``torch.nn.functional.pixel_unshuffle``.

    Shape:
        input: (*, H * r, W * r, C); returns (*, H, W, C * r * r).

    Raises:
        ValueError: fewer than three axes, a factor that is not positive, sizes it does not divide.

    >>> pixel_unshuffle(jnp.ones((2, 6, 4, 3)), 2).shape
    (2, 3, 2, 12)

    Source: torch.nn.functional.pixel_unshuffle, PyTorch 2.13 documentation.
    """
    r = _factor(input, downscale_factor, "pixel_unshuffle", "downscale_factor")
    *batch, height, width, channels = input.shape
    if height % r or width % r:
        raise ValueError(
            f"pixel_unshuffle: sizes {(height, width)} of shape {tuple(input.shape)} are not "
            f"multiples of downscale_factor = {r}."
        )
    n = len(batch)
    split = input.reshape(*batch, height // r, r, width // r, r, channels)
    moved = split.transpose(*range(n), n, n + 2, n + 4, n + 1, n + 3)
    return moved.reshape(*batch, height // r, width // r, channels * r * r)


def channel_shuffle(input: jax.Array, groups: int) -> jax.Array:
    """Deal the channels of ``groups`` groups out in turn.

    The twin of ``torch.nn.functional.channel_shuffle``.

    Shape:
        input: (N, *, C); returns the same.

    Raises:
        ValueError: fewer than three axes; channels that ``groups`` does not divide.

    >>> channel_shuffle(jnp.arange(4).reshape(1, 1, 4), 2).tolist()
    [[[0, 2, 1, 3]]]

    Source: torch.nn.functional.channel_shuffle, PyTorch 2.13 documentation.
    """
    if input.ndim < 3:
        raise ValueError(
            f"channel_shuffle: expected at least 3 axes, got shape {tuple(input.shape)}."
        )
    channels = input.shape[-1]
    if groups <= 0 or channels % groups:
        raise ValueError(
            f"channel_shuffle: groups={groups} must be positive and divide the {channels} channels."
        )
    split = input.reshape(*input.shape[:-1], groups, channels // groups)
    return split.swapaxes(-1, -2).reshape(input.shape)


def native_channel_shuffle(input: jax.Array, groups: int) -> jax.Array:
    """Do what ``channel_shuffle`` does; torch's name of its own kernel.

    >>> native_channel_shuffle(jnp.arange(4).reshape(1, 1, 4), 2).tolist()
    [[[0, 2, 1, 3]]]

    Source: torch.nn.functional.native_channel_shuffle, PyTorch 2.13.
    """
    return channel_shuffle(input, groups)


def _factor(input: jax.Array, factor: int, who: str, name: str) -> int:
    if input.ndim < 3:
        raise ValueError(f"{who}: expected at least 3 axes, got shape {tuple(input.shape)}.")
    if factor <= 0:
        raise ValueError(f"{who}: {name} must be positive, got {factor}.")
    return factor
