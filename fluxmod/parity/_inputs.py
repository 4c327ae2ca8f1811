"""Second batch sizes and random weights: what a faulty port must not pass by luck."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from fluxmod.convert._source import as_numpy

from ._copies import copied
from ._trees import is_array, leaves, map_leaves

__all__ = ["other_batch", "randomise_", "targets_of"]


def randomise_(module: torch.nn.Module, seed: int) -> None:
    """Give every float parameter and buffer of a torch module random values of its kind, in place.

    Zero biases and unit scales hide faults. Matrices become N(0, 1/fan_in); vectors and scalars
    move by N(0, 0.25); buffers that are positive stay positive; tensors that hold infinities,
    integer and bool tensors, and buffers that no checkpoint has are kept. Tied tensors stay tied.
    """
    rng = np.random.default_rng([seed, 1])
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.is_floating_point():
                _fill(parameter, _weights(as_numpy(parameter), rng))
        saved = module.state_dict(keep_vars=True)
        for name, buffer in module.named_buffers():
            if name in saved and buffer.is_floating_point():
                _fill(buffer, _statistics(as_numpy(buffer), rng))


def _fill(tensor: torch.Tensor, values: np.ndarray) -> None:
    tensor.copy_(torch.from_numpy(np.array(values, np.float64)).to(tensor.dtype))


def _weights(current: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    current = current.astype(np.float64)
    if not np.isfinite(current).all():
        return current
    noise = rng.standard_normal(current.shape)
    if current.ndim < 2:
        return current + 0.5 * noise
    return noise / np.sqrt(max(current.size // max(current.shape[0], 1), 1))


def _statistics(current: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    current = current.astype(np.float64)
    if not np.isfinite(current).all():
        return current
    if (current > 0).all():
        return current * rng.uniform(0.5, 1.5, current.shape)
    return current + 0.5 * rng.standard_normal(current.shape)


def other_batch(
    args: tuple[Any, ...], kwargs: Mapping[str, Any], seed: int
) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """Return the arguments at a batch two larger, or None where there is no batch to enlarge.

    The batch is axis 0 of the first array; every array of that length on axis 0 grows, by rows of
    its own, float values with noise added.
    """
    arrays = [a for _, a in leaves([args, dict(kwargs)])]
    if not arrays or arrays[0].ndim == 0 or arrays[0].shape[0] == 0:
        return None
    batch = arrays[0].shape[0]
    rng = np.random.default_rng([seed, 2])

    def grow(array: Any) -> Any:
        if not is_array(array) or array.ndim == 0 or array.shape[0] != batch:
            return array
        rows = rng.integers(0, batch, batch + 2)
        value = np.asarray(as_numpy(array))[rows]
        if np.issubdtype(value.dtype, np.floating):
            value = value + 0.3 * rng.standard_normal(value.shape).astype(value.dtype)
        return value

    return map_leaves(args, grow), map_leaves(dict(kwargs), grow)


def targets_of(
    module: torch.nn.Module, args: Any, kwargs: Mapping[str, Any], options: Any
) -> dict[str, np.ndarray]:
    """Return a training target for each output that can be trained, in torch's layout.

    ``options.target`` gives labels for the first output; otherwise every float output gets a
    random target of its own shape.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        training = module.training
        outputs = dict(leaves(copied(module).train(training)(*args, **kwargs)))
    floats = {n: as_numpy(v) for n, v in outputs.items() if v.is_floating_point()}
    if options.target is not None:
        name, value = next(iter(floats.items()))
        return {name: np.asarray(options.target(value.shape[0]))}
    rng = np.random.default_rng([options.seed, 4])
    return {name: rng.standard_normal(value.shape) for name, value in floats.items()}
