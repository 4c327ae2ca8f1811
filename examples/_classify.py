"""Training one of the note's classifiers on images, in either framework."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from _images import Images, load
from _loader import Batches
from _loop import Stopwatch, accuracy, report, train
from _sessions import FlaxSession, Session, TorchSession

LEARNING_RATE = 1e-3  # Adam, as in the notes


def session_for(name: str, backend: str, seed: int) -> Session:
    """The model of that name with cross-entropy and Adam."""
    if backend == "torch":
        return torch_session(name, seed)
    return flax_session(name, seed)


def torch_session(name: str, seed: int) -> TorchSession:
    """The torch model in a session of its own."""
    import torch

    from fluxmod.models import torch as models

    torch.manual_seed(seed)
    return TorchSession(
        getattr(models, name)(),
        lambda params: torch.optim.Adam(params, lr=LEARNING_RATE),
        torch.nn.CrossEntropyLoss(),
        lambda batch: (batch["image"],),
        "label",
    )


def flax_session(name: str, seed: int) -> FlaxSession:
    """The Flax model in a session of its own."""
    from flax import nnx

    from fluxmod import nn, optim
    from fluxmod.models import flax as models

    return FlaxSession(
        getattr(models, name)(rngs=nnx.Rngs(seed)),
        optim.Adam(lr=LEARNING_RATE),
        nn.CrossEntropyLoss(),
        lambda batch: (batch["image"],),
        "label",
    )


def with_channel(images: np.ndarray, backend: str) -> np.ndarray:
    """Add the channel axis where the framework's convolutions want it."""
    return images[:, None] if backend == "torch" else images[..., None]


def run(name: str, options: argparse.Namespace, *, channel: bool) -> dict[str, Any]:
    """Load the data, train, and print loss and held-out accuracy."""
    data: Images = load(options.data, download=options.download)
    place = (lambda x: with_channel(x, options.backend)) if channel else (lambda x: x)
    arrays = {"image": place(data.train_images), "label": data.train_labels}
    print(f"{name} in {options.backend} on {data.name}: {len(data.train_labels)} images")
    session = session_for(name, options.backend, options.seed)
    watch = Stopwatch()
    losses = train(
        session,
        Batches(arrays, options.batch_size, seed=options.seed),
        options.epochs,
        checkpoint=options.checkpoint,
        steps=options.steps,
        title=name,
    )
    held_out = accuracy(session, place(data.test_images), data.test_labels, options.batch_size)
    figures = {
        "steps": len(losses),
        "first_loss": losses[0] if losses else None,
        "last_loss": losses[-1] if losses else None,
        "held_out_accuracy": held_out,
        "seconds": round(watch.seconds, 1),
    }
    report(**figures)
    return figures
