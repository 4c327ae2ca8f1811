"""The whole journey on real images: torch, certificate, Flax, and back to torch.

make demo
"""

from __future__ import annotations

import argparse
from pathlib import Path

import jax
import numpy as np
import torch
from _classify import LEARNING_RATE, torch_session, with_channel
from _images import load
from _loader import Batches
from _loop import Stopwatch, classes, report, train
from _sessions import FlaxSession, TorchSession
from flax import nnx
from rich.console import Console

from fluxmod import convert, nn, optim, parity
from fluxmod.models.flax import SimpleCNN

console = Console()


def main() -> None:
    """Run the six steps; exit 1 if the frameworks disagree anywhere."""
    options = _options()
    jax.config.update("jax_compilation_cache_dir", str(Path(".cache/xla").absolute()))
    data = load(options.data)
    watch = Stopwatch()

    _say(f"1  Train SimpleCNN in torch on {data.name}: {len(data.train_labels)} images")
    theirs = torch_session("SimpleCNN", options.seed)
    _train(theirs, data, "torch", options)
    before = _accuracy(theirs, data, "torch")
    print(f"held-out accuracy {before:.4f}")

    _say("2  Convert weights and Adam state to Flax")
    ours, opt_state = to_flax(theirs)

    _say("3  Certify")
    sample = torch.from_numpy(with_channel(data.test_images[:3], "torch"))
    certificate = parity.check(theirs.model, ours, sample)
    print(certificate.text())
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "demo.html").write_text(certificate.to_html(), encoding="utf-8")

    flax_side = FlaxSession(
        ours,
        optim.Adam(lr=LEARNING_RATE),
        nn.CrossEntropyLoss(),
        lambda batch: (batch["image"],),
        "label",
        opt_state,
    )
    _say("4  Do both name the same class on every held-out image?")
    same = int(np.sum(_classes(theirs, data, "torch") == _classes(flax_side, data, "flax")))
    print(f"{same} of {len(data.test_labels)} the same")

    _say("5  Carry on training in Flax, from torch's weights and Adam state")
    _train(flax_side, data, "flax", options)
    after = _accuracy(flax_side, data, "flax")
    print(f"held-out accuracy {after:.4f}")

    _say("6  Convert back; torch confirms")
    confirmed = _accuracy(to_torch(flax_side, options.seed), data, "torch")
    print(f"torch's accuracy with Flax's weights {confirmed:.4f}")

    _say("Result")
    good = certificate.passed and same == len(data.test_labels) and confirmed == after
    report(
        certificate="equal" if certificate.passed else "NOT equal",
        same_classes=f"{same}/{len(data.test_labels)}",
        accuracy_torch=before,
        accuracy_flax=after,
        accuracy_confirmed=confirmed,
        report=str(options.out / "demo.html"),
        seconds=round(watch.seconds, 1),
    )
    raise SystemExit(0 if good else 1)


def to_flax(session: TorchSession) -> tuple[SimpleCNN, object]:
    """The Flax model and its optimizer state, from a torch session."""
    ours = SimpleCNN(rngs=nnx.Rngs(0))
    print(convert.to_flax(session.model, ours).text())
    state = convert.optimizer_to_flax(
        session.optimizer, ours, optim.Adam(lr=LEARNING_RATE), torch_model=session.model
    )
    return ours, state


def to_torch(session: FlaxSession, seed: int) -> TorchSession:
    """A torch session with the weights and the Adam state of a Flax one."""
    theirs = torch_session("SimpleCNN", seed)
    trainer = session.trainer
    convert.into_torch(trainer.model, theirs.model)
    state = convert.optimizer_to_torch(
        trainer.opt_state,
        trainer.model,
        trainer.tx,
        like=theirs.optimizer,
        torch_model=theirs.model,
    )
    convert.load_optimizer_state_dict(theirs.optimizer, state)
    return theirs


def _train(session, data, backend, options) -> None:
    arrays = {"image": with_channel(data.train_images, backend), "label": data.train_labels}
    train(session, Batches(arrays, 64, seed=options.seed), options.epochs, title=backend)


def _classes(session, data, backend) -> np.ndarray:
    return classes(session, with_channel(data.test_images, backend), 90)


def _accuracy(session, data, backend) -> float:
    return float((_classes(session, data, backend) == data.test_labels).mean())


def _say(text: str) -> None:
    console.rule(f"[bold]{text}", align="left")


def _options() -> argparse.Namespace:
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument("--epochs", type=int, default=3, help="in each framework")
    made.add_argument("--data", type=Path, help="folder with Fashion-MNIST's own files")
    made.add_argument("--out", type=Path, default=Path("out"))
    made.add_argument("--seed", type=int, default=0)
    return made.parse_args()


if __name__ == "__main__":
    main()
