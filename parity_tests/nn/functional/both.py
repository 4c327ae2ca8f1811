"""One function in both frameworks: outputs and gradients in float64, torch's masks replayed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch.testing._internal.common_methods_invocations import op_db

from fluxmod.nn._random import replay
from fluxmod.parity._torch import record_masks
from parity_tests.compare import same
from parity_tests.nn.twins import flat

Arrays = Mapping[str, np.ndarray | None]


def equal(theirs: Callable[..., Any], ours: Callable[..., Any], arrays: Arrays, **kwargs: Any):
    """Require equal outputs, and equal gradients of a random functional of them.

    ``arrays`` go to both functions by name (floats as float64), None included; gradients are taken
    with respect to every float one. Returns the masks that torch drew.
    """
    given = {k: v for k, v in arrays.items() if v is not None}
    absent = {k: None for k, v in arrays.items() if v is None}
    tensors = {k: torch.from_numpy(v.copy()) for k, v in given.items()}
    floats = [k for k, t in tensors.items() if t.is_floating_point()]
    for k in floats:
        tensors[k] = tensors[k].double().requires_grad_()
    with record_masks() as masks:
        want = flat(theirs(**tensors, **absent, **kwargs))
    rng = np.random.default_rng(7)
    cotangents = [rng.standard_normal(tuple(out.shape)) for out in want]
    total = sum((o * torch.from_numpy(c)).sum() for o, c in zip(want, cotangents, strict=True))
    total.backward()

    def functional(chosen: dict[str, jax.Array]) -> tuple[jax.Array, list[jax.Array]]:
        rest = {k: jnp.asarray(v) for k, v in given.items() if k not in chosen}
        with replay(masks):
            got = flat(ours(**chosen, **rest, **absent, **kwargs))
        return sum(jnp.vdot(o, c) for o, c in zip(got, cotangents, strict=True)), got

    with (
        jax.enable_x64(True),
        jax.numpy_dtype_promotion("strict"),
        jax.numpy_rank_promotion("raise"),
    ):
        chosen = {k: jnp.asarray(tensors[k].detach().numpy()) for k in floats}
        grads, got = jax.jit(jax.grad(functional, has_aux=True))(chosen)
    same(_numbered(got), _numbered(want))
    same(grads, {k: _gradient(tensors[k]) for k in sorted(floats)})
    return masks


def torch_samples(name: str) -> list[tuple[list[Any], dict[str, Any]]]:
    """The float64 samples that torch tests a function with: arguments, tensors as numpy arrays.

    torch draws floats from [-9, 9]. They are divided by 9: products of several of them saturate
    every softmax, and a gradient is then nothing but the rounding noise of either side.
    """
    (op,) = (op for op in op_db if op.name == name)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        samples = list(op.sample_inputs_func(op, "cpu", torch.float64, False))
    return [
        (
            [_as_numpy(v) for v in (sample.input, *sample.args)],
            {k: _as_numpy(v) for k, v in sample.kwargs.items()},
        )
        for sample in samples
    ]


def _as_numpy(value: Any) -> Any:
    if not isinstance(value, torch.Tensor):
        return value
    return (value / 9 if value.is_floating_point() else value).numpy()


def _gradient(tensor: torch.Tensor) -> torch.Tensor:
    return torch.zeros_like(tensor) if tensor.grad is None else tensor.grad


def _numbered(arrays: Any) -> dict[str, Any]:
    return {f"output {i}": array for i, array in enumerate(arrays)}
