"""What depth costs with and without scan: ``python -m benchmarks.depth``.

A GPT-2 of transformers, 32 wide, is ported at four depths; its loss and all gradients are compiled
in training mode. A depth's two variants follow one another in one process, the caches cleared.
"""

from __future__ import annotations

import time
from typing import Any

import jax
import jax.numpy as jnp
import torch
from flax import nnx

from fluxmod import porter

DEPTHS = (6, 12, 24, 48)
LENGTH = 7


def gpt2(depth: int) -> torch.nn.Module:
    """A model of ``transformers`` with random weights."""
    import transformers

    transformers.logging.set_verbosity_error()
    config = transformers.GPT2Config(
        vocab_size=99, n_positions=40, n_embd=32, n_head=4, n_layer=depth, use_cache=False
    )
    torch.manual_seed(0)
    return transformers.GPT2LMHeadModel(config)


def measured(depth: int, *, scan: bool) -> dict[str, float]:
    """Processor seconds to port, trace and compile, lines of the program, seconds to run."""
    jax.clear_caches()
    tokens = torch.randint(0, 99, (2, LENGTH))
    module = gpt2(depth)
    start = time.process_time()
    model = porter.port(module, input_ids=tokens, options=porter.Options(scan=scan))
    found = {"port": time.process_time() - start}
    model.train()
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)  # type: ignore[misc]

    def loss(params: Any, rest: Any, ids: jax.Array) -> tuple[jax.Array, Any]:
        run = nnx.merge(graphdef, params, rest, copy=True)
        logits = run(input_ids=ids)["logits"]  # type: ignore[operator]
        return (logits**2).mean(), nnx.state(run, nnx.Not(nnx.Param))

    ids = jnp.asarray(tokens.numpy())
    start = time.process_time()
    lowered = jax.jit(jax.value_and_grad(loss, has_aux=True)).lower(params, rest, ids)
    found["trace"] = time.process_time() - start
    found["lines"] = len(lowered.as_text().splitlines())
    start = time.process_time()
    step = lowered.compile()
    found["compile"] = time.process_time() - start
    jax.block_until_ready(step(params, rest, ids))
    start = time.perf_counter()
    for _ in range(20):
        jax.block_until_ready(step(params, rest, ids))
    found["step"] = (time.perf_counter() - start) / 20
    return found


def main() -> None:
    """Print a row for each depth and variant."""
    measured(2, scan=False)
    measured(2, scan=True)
    print("| Blocks | Scan | Port, s | Trace, s | Compile, s | Lines of StableHLO | Step, ms |")
    print("|---:|---|---:|---:|---:|---:|---:|")
    for depth in DEPTHS:
        for scan in (False, True):
            row = measured(depth, scan=scan)
            shown = [f"{row[name]:.1f}" for name in ("port", "trace", "compile")]
            shown += [f"{row['lines']:,.0f}", f"{1000 * row['step']:.1f}"]
            print(f"| {depth} | {'yes' if scan else 'no'} | {' | '.join(shown)} |", flush=True)


if __name__ == "__main__":
    main()
