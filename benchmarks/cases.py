"""Models and sizes, fixed before anything was optimised; every row is published."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fluxmod.models import Input


@dataclass(frozen=True)
class Case:
    """A note model at a batch size; shapes in torch's layout, ``images`` are channels-first."""

    name: str
    build: str
    args: tuple[Any, ...]
    inputs: tuple[Input, ...]
    batch: int
    classes: int | None = None
    images: bool = False

    def arrays(self, seed: int = 0) -> tuple[list[np.ndarray], np.ndarray | None]:
        """Inputs in torch's layout, and labels if the model classifies."""
        rng = np.random.default_rng(seed)
        inputs = [spec.make(self.batch, rng) for spec in self.inputs]
        labels = None if self.classes is None else rng.integers(0, self.classes, self.batch)
        return inputs, labels

    @property
    def to_flax(self) -> Callable[[list[np.ndarray]], list[np.ndarray]]:
        """Move the channel axis of image inputs to the end."""

        def move(inputs: list[np.ndarray]) -> list[np.ndarray]:
            return [
                np.ascontiguousarray(np.moveaxis(x, 1, -1)) if x.ndim == 4 else x for x in inputs
            ]

        return move


_IMAGE = Input(("N", 1, 28, 28))
_FLAT = Input(("N", 28, 28))

CASES = (
    Case("Model", "Model", (), (_IMAGE,), 32),
    Case("MLP", "MLP", (64,), (Input(("N", 64)),), 64),
    Case("SimpleCNN", "SimpleCNN", (), (_IMAGE,), 64, classes=10),
    Case("NeuralNetwork", "NeuralNetwork", (), (_FLAT,), 64, classes=10),
    Case("seq_modules", "seq_modules", (), (_FLAT,), 64, classes=10),
    Case("SimpleModel", "SimpleModel", (64, 32), (Input(("N", 64)),), 64),
    Case("mlp_256_128_64", "mlp", (), (Input(("N", 256)),), 64),
    Case("TwoLayerMLP", "TwoLayerMLP", (64, 128, 10), (Input(("N", 64)),), 64, classes=10),
    Case("Liner", "Liner", (64, 32), (Input(("N", 64)),), 64),
    Case("VLAModel", "VLAModel", (), (Input(("N", 3, 32, 32)), Input(("N", 8), high=32)), 32),
)
