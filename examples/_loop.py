"""The training loop and the options that all examples share."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
from _loader import Batches, in_order
from _sessions import Session
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


def parser(description: str, epochs: int) -> argparse.ArgumentParser:
    """The options every example takes."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--backend", choices=("torch", "flax"), default="flax")
    made.add_argument("--epochs", type=int, default=epochs)
    made.add_argument("--data", type=Path, help="folder with the data set's own files")
    made.add_argument("--checkpoint", type=Path, help="folder to save to, and to resume from")
    made.add_argument("--batch-size", type=int, default=64)
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--steps", type=int, help="stop after this many steps in all")
    return made


def train(
    session: Session,
    batches: Batches,
    epochs: int,
    *,
    checkpoint: Path | None = None,
    steps: int | None = None,
    title: str = "training",
) -> list[float]:
    """Train for ``epochs`` in all, resuming and saving if a folder is given; the losses.

    A checkpoint is saved after every epoch, with the position in the data: a run that is stopped
    and started again sees the batches that an uninterrupted one sees.
    """
    if checkpoint is not None and (position := session.restore(checkpoint)) is not None:
        batches.set_state(position)
        print(f"resumed after {batches.drawn} steps from {checkpoint}")
    total = epochs * len(batches)
    total = total if steps is None else min(total, steps)
    losses: list[Any] = []
    with _bar() as bar:
        task = bar.add_task(title, total=total, completed=batches.drawn, loss="")
        while batches.drawn < total:
            for batch in batches.epoch():
                losses.append(session.step(batch))
                shown = f"loss {float(losses[-1]):.4f}" if len(losses) % 10 == 1 else None
                bar.update(task, advance=1, **({"loss": shown} if shown else {}))
                if batches.drawn >= total:
                    break
            if checkpoint is not None:
                session.save(checkpoint, batches.get_state())
    return [float(loss) for loss in losses]


def accuracy(session: Session, images: np.ndarray, labels: np.ndarray, batch_size: int) -> float:
    """Share of images whose class the model names."""
    return float((classes(session, images, batch_size) == labels).mean())


def classes(session: Session, images: np.ndarray, batch_size: int) -> np.ndarray:
    """The class that the model names for each image."""
    parts = in_order({"image": images}, batch_size)
    return np.concatenate([session.predict(part["image"]).argmax(-1) for part in parts])


def report(**figures: Any) -> None:
    """Print the closing figures, one a line."""
    for name, value in figures.items():
        shown = f"{value:.4f}" if isinstance(value, float) else value
        print(f"{name.replace('_', ' '):<22} {shown}")


class Stopwatch:
    """Seconds since it was made.

    >>> Stopwatch().seconds >= 0
    True
    """

    def __init__(self) -> None:
        self.start = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Seconds so far."""
        return time.perf_counter() - self.start


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[loss]}"),
        TimeElapsedColumn(),
    )
