"""What a call costs beside its arithmetic: ``python -m benchmarks.overhead``.

A chain of 150 small layers (300 parameters) on one row: nearly all of the time is the call's own.
Variants take turns in one process, so that a slow moment hits all of them.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

import fluxmod
from fluxmod import nn

LAYERS, WIDTH, ROUNDS = 150, 8, 300


def variants() -> dict[str, Callable[[], jax.Array]]:
    """The same computation, called in four ways."""
    rngs = nnx.Rngs(0)
    model = nn.Sequential(*[nn.Linear(WIDTH, WIDTH, rngs=rngs) for _ in range(LAYERS)])
    model.eval()
    x = jnp.ones((1, WIDTH))
    graph, state = nnx.split(model)
    leaves, structure = jax.tree.flatten(state)

    @jax.jit
    def of_leaves(leaves: list[jax.Array], x: jax.Array) -> jax.Array:
        made: Callable[[jax.Array], jax.Array] = nnx.merge(
            graph, jax.tree.unflatten(structure, leaves)
        )
        return made(x)

    of_state = jax.jit(lambda state, x: nnx.merge(graph, state)(x))
    of_nnx = nnx.jit(lambda model, x: model(x))
    fast = fluxmod.jit(model)
    return {
        "jax.jit of a list of arrays": lambda: of_leaves(leaves, x),
        "fluxmod.jit(model)": lambda: fast(x),
        "jax.jit of an nnx.State": lambda: of_state(state, x),
        "nnx.jit": lambda: of_nnx(model, x),
    }


def main() -> None:
    """Print medians in microseconds."""
    calls = variants()
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call().block_until_ready()
    for _ in range(ROUNDS):
        for name, call in calls.items():
            start = time.perf_counter()
            call().block_until_ready()
            times[name].append(1e6 * (time.perf_counter() - start))
    print(f"one call of {LAYERS} Linear({WIDTH}, {WIDTH}), {2 * LAYERS} parameters, microseconds")
    for name, found in times.items():
        print(f"  {name:28s} median {statistics.median(found):8.0f}   least {min(found):8.0f}")


if __name__ == "__main__":
    main()
