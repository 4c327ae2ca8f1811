"""One training session in either framework, behind the same four methods.

A session steps on a batch of numpy arrays, predicts, and saves and restores everything that
training needs: weights, buffers, optimizer state, random state and the position in the data.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np

Batch = dict[str, np.ndarray]


class Session(Protocol):
    """What the training loop needs of a framework."""

    def step(self, batch: Batch) -> Any:
        """Train on one batch; the loss, as something ``float`` takes."""

    def predict(self, *inputs: np.ndarray) -> np.ndarray:
        """The model's output in evaluation mode."""

    def save(self, folder: Path, position: dict[str, Any]) -> None:
        """Write a checkpoint that is complete or not there."""

    def restore(self, folder: Path) -> dict[str, Any] | None:
        """Load the newest checkpoint and return the position, or None where there is none."""


class TorchSession:
    """The torch side, eager."""

    def __init__(
        self,
        model: Any,
        optimizer: Callable[[Any], Any],
        loss: Callable[[Any, Any], Any],
        inputs: Callable[[Batch], tuple[np.ndarray, ...]],
        target: str,
        schedule: Callable[[Any], Any] | None = None,
    ) -> None:
        import torch

        self.torch = torch
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = model.to(self.device)
        self.optimizer = optimizer([p for p in model.parameters() if p.requires_grad])
        self.schedule = None if schedule is None else schedule(self.optimizer)
        self.loss, self.inputs, self.target = loss, inputs, target

    def _tensors(self, arrays: tuple[np.ndarray, ...]) -> list[Any]:
        return [self.torch.from_numpy(np.ascontiguousarray(a)).to(self.device) for a in arrays]

    def step(self, batch: Batch) -> Any:
        self.model.train()
        self.optimizer.zero_grad()
        (target,) = self._tensors((batch[self.target],))
        loss = self.loss(self.model(*self._tensors(self.inputs(batch))), target)
        loss.backward()
        self.optimizer.step()
        if self.schedule is not None:
            self.schedule.step()
        return loss.detach()

    def predict(self, *inputs: np.ndarray) -> np.ndarray:
        self.model.eval()
        with self.torch.no_grad():
            return self.model(*self._tensors(inputs)).cpu().numpy()

    def save(self, folder: Path, position: dict[str, Any]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        content = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": None if self.schedule is None else self.schedule.last_epoch,
            "rng": self.torch.get_rng_state(),
            "position": position,
        }
        partial = folder / "torch.pt.partial"
        self.torch.save(content, partial)
        os.replace(partial, folder / "torch.pt")

    def restore(self, folder: Path) -> dict[str, Any] | None:
        path = folder / "torch.pt"
        if not path.exists():
            return None
        content = self.torch.load(path, weights_only=True)
        self.model.load_state_dict(content["model"])
        self.optimizer.load_state_dict(content["optimizer"])
        if self.schedule is not None:
            self.schedule.last_epoch = content["schedule"]
        self.torch.set_rng_state(content["rng"])
        return content["position"]


class FlaxSession:
    """The Flax side: ``fluxmod.train.Trainer``, jitted."""

    def __init__(
        self,
        model: Any,
        tx: Any,
        loss: Callable[[Any, Any], Any],
        inputs: Callable[[Batch], tuple[np.ndarray, ...]],
        target: str,
        opt_state: Any = None,
    ) -> None:
        from fluxmod import train

        def objective(model: Any, batch: Any) -> Any:
            return loss(model(*inputs(batch)), batch[target])

        self.trainer = train.Trainer(model, tx, objective, opt_state=opt_state)

    def step(self, batch: Batch) -> Any:
        return self.trainer.step(batch)["loss"]

    def predict(self, *inputs: np.ndarray) -> np.ndarray:
        return np.asarray(self.trainer.predict(*inputs))

    def save(self, folder: Path, position: dict[str, Any]) -> None:
        from fluxmod import train

        train.Checkpoints(folder / "flax").save(self.trainer, extra=position)

    def restore(self, folder: Path) -> dict[str, Any] | None:
        from fluxmod import train

        checkpoints = train.Checkpoints(folder / "flax")
        return None if checkpoints.latest is None else checkpoints.restore(self.trainer)
