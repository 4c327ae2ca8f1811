"""Training mode: the masks that torch draws are recorded and replayed in Flax."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import nnx

from fluxmod import convert
from fluxmod.nn._random import replay
from fluxmod.parity._torch import record_masks
from parity_tests.compare import same

from .twins import Case, build, call_flax, flat, generator, inputs, torch_keywords


def replayed(case: Case) -> int:
    """Require equal outputs and gradients under torch's masks; return how many torch drew.

    For layers whose inputs and outputs have the same order of axes in both frameworks.
    """
    with (
        jax.enable_x64(True),
        jax.numpy_dtype_promotion("strict"),
        jax.numpy_rank_promotion("raise"),
    ):
        return _replayed(case)


def _replayed(case: Case) -> int:
    theirs, ours = build(case)
    arrays = inputs(case)
    tensors = [torch.from_numpy(a.copy()) for a in arrays]
    floats = [i for i, t in enumerate(tensors) if t.is_floating_point()]
    for i in floats:
        tensors[i].requires_grad_()
    with record_masks() as masks:
        want = flat(theirs(*case.nest(tensors), **torch_keywords(case)))
    cotangents = [generator(case, 99).standard_normal(tuple(out.shape)) for out in want]
    total = sum((o * torch.from_numpy(c)).sum() for o, c in zip(want, cotangents, strict=True))
    total.backward()

    graph, params, rest = nnx.split(ours, nnx.Param, ...)

    def functional(params: Any, chosen: list[jax.Array]) -> tuple[jax.Array, list[jax.Array]]:
        given = [jnp.asarray(a) for a in arrays]
        for i, x in zip(floats, chosen, strict=True):
            given[i] = x
        with replay(masks):
            got = call_flax(nnx.merge(graph, params, rest, copy=True), case, given)
        return sum(jnp.vdot(o, c) for o, c in zip(got, cotangents, strict=True)), got

    grads, got = jax.jit(jax.grad(functional, argnums=(0, 1), has_aux=True))(
        params, [jnp.asarray(arrays[i]) for i in floats]
    )
    same(_numbered(got), _numbered(want))
    same(_numbered(grads[1]), _numbered([tensors[i].grad for i in floats]))
    nnx.update(ours, grads[0])
    gradients = {
        n: np.zeros(tuple(p.shape)) if p.grad is None else p.grad
        for n, p in theirs.named_parameters()
    }
    same(convert.to_torch(ours), gradients)
    return len(masks)


def _numbered(arrays: Any) -> dict[str, Any]:
    return {str(i): array for i, array in enumerate(arrays)}
