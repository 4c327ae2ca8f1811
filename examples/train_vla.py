"""Behaviour cloning of a reaching task with the notes' VLAModel, in torch or in Flax.

A rendered table, an instruction that names a coloured block, an expert to imitate. The policy is
scored in closed loop over 200 episodes, beside two baselines from the same run: chance, and the
same model trained and scored without the instruction.

    python examples/train_vla.py --backend flax
"""

from __future__ import annotations

import argparse
import math
from typing import Any

import _reaching as reaching
import numpy as np
from _loader import Batches
from _loop import Stopwatch, parser, report, train
from _sessions import FlaxSession, Session, TorchSession

LEARNING_RATE = 1e-3
WARM_UP = 100
EPISODES = 200
SIZES = {"vocab_size": len(reaching.VOCABULARY), "max_tokens": reaching.TOKENS}


def main() -> None:
    """Train with and without the instruction, and score both and chance."""
    made = parser("Clone a reaching expert with VLAModel.", epochs=12)
    made.add_argument("--demonstrations", type=int, default=24_000, help="moments to imitate")
    made.add_argument("--episodes", type=int, default=EPISODES, help="to score a policy by")
    options = made.parse_args()
    if options.data is not None:
        made.error("the example makes its own demonstrations; --data has no use here")
    watch = Stopwatch()
    scores: dict[str, reaching.Score] = {}
    for name, instruction in (("instructed", "named"), ("blind", "masked")):
        session, losses = clone(name, instruction, options)
        scores[name] = reaching.evaluate(
            policy(session, options.backend), options.episodes, instruction=instruction
        )
        print(f"{name}: loss {losses[0]:.4f} -> {losses[-1]:.4f}" if losses else f"{name}: resumed")
    scores["chance"] = reaching.evaluate(reaching.chance_policy(options.seed), options.episodes)
    rate = {name: score.rate for name, score in scores.items()}
    report(
        backend=options.backend,
        success_instructed=scores["instructed"],
        success_blind=scores["blind"],
        success_chance=scores["chance"],
        times_chance=round(rate["instructed"] / max(rate["chance"], 1 / options.episodes), 1),
        seconds=round(watch.seconds, 1),
    )


def clone(name: str, instruction: Any, options: argparse.Namespace) -> tuple[Session, list[float]]:
    """Train one policy on the expert's actions."""
    data = reaching.demonstrations(options.demonstrations, options.seed, instruction=instruction)
    batches = Batches(data.arrays, options.batch_size, seed=options.seed)
    total = options.epochs * len(batches)
    session = session_for(options.backend, options.seed, total)
    folder = None if options.checkpoint is None else options.checkpoint / name
    losses = train(
        session, batches, options.epochs, checkpoint=folder, steps=options.steps, title=name
    )
    return session, losses


def session_for(backend: str, seed: int, total: int) -> Session:
    """VLAModel with mean squared error, AdamW, warm-up and cosine decay."""
    if backend == "torch":
        import torch

        from fluxmod.models.torch import VLAModel as TorchVLA

        torch.manual_seed(seed)
        return TorchSession(
            TorchVLA(**SIZES),
            lambda params: torch.optim.AdamW(params, lr=LEARNING_RATE),
            torch.nn.MSELoss(),
            lambda batch: (np.moveaxis(batch["image"], -1, 1), batch["tokens"]),
            "action",
            lambda optimizer: torch.optim.lr_scheduler.LambdaLR(
                optimizer, lambda step: share(step, total, math.cos, min)
            ),
        )
    import jax.numpy as jnp
    from flax import nnx

    from fluxmod import nn, optim
    from fluxmod.models.flax import VLAModel as FlaxVLA

    def rate(step: Any) -> Any:
        return LEARNING_RATE * share(step, total, jnp.cos, jnp.minimum)

    return FlaxSession(
        FlaxVLA(**SIZES, rngs=nnx.Rngs(seed)),
        optim.AdamW(lr=rate),
        nn.MSELoss(),
        lambda batch: (batch["image"], batch["tokens"]),
        "action",
    )


def share(step: Any, total: int, cos: Any, minimum: Any) -> Any:
    """The share of the learning rate at a step: up in a line, down in half a cosine.

    >>> round(share(0, 1000, math.cos, min), 2), round(share(1000, 1000, math.cos, min), 2)
    (0.01, 0.0)
    """
    warm = minimum(1.0, (step + 1) / WARM_UP)
    return warm * 0.5 * (1.0 + cos(math.pi * minimum(1.0, step / total)))


def policy(session: Session, backend: str) -> reaching.Policy:
    """The trained model as a function from images and instructions to actions."""

    def act(images: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        moved = np.moveaxis(images, -1, 1) if backend == "torch" else images
        return session.predict(moved, tokens)

    return act


if __name__ == "__main__":
    main()
