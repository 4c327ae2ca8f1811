"""The FashionMNIST classifier of note 002, and its Sequential variant."""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["NeuralNetwork", "Predictor", "seq_modules"]


class NeuralNetwork(nn.Module):
    """Three linear layers over a flattened image.

    Shape:
        x: (N, 28, 28) or (N, 1, 28, 28); returns (N, 10) logits.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flatten = nn.Flatten()
        self.linear_relu_stack = nn.Sequential(
            nn.Linear(28 * 28, 512),
            nn.ReLU(),
            nn.Linear(512, 512),
            nn.ReLU(),
            nn.Linear(512, 10),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        x = self.flatten(x)
        return self.linear_relu_stack(x)


class Predictor(nn.Module):
    """The note's prediction: logits, then ``Softmax(dim=1)``, then the most probable class.

    Shape:
        x: as the network takes it; returns probabilities (N, 10) and classes (N,).
    """

    def __init__(self) -> None:
        super().__init__()
        self.network = NeuralNetwork()
        self.softmax = nn.Softmax(dim=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the probabilities and the predicted class."""
        probabilities = self.softmax(self.network(x))
        return probabilities, probabilities.argmax(1)


def seq_modules() -> nn.Sequential:
    """Build the note's ``seq_modules``: flatten, 784-20, ReLU, 20-10.

    Shape:
        x: (N, 28, 28); returns (N, 10) logits.
    """
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(28 * 28, 20),
        nn.ReLU(),
        nn.Linear(20, 10),
    )
