"""A small image classifier (note 001)."""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["SimpleCNN"]


class SimpleCNN(nn.Module):
    """Convolution, batch normalisation and pooling, then two linear layers.

    Shape:
        x: (N, 1, 28, 28); returns (N, 10) logits.
    """

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(in_channels=1, out_channels=16, kernel_size=5, stride=1, padding=2),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.MaxPool2d(kernel_size=2),
        )
        self.classifier = nn.Sequential(
            nn.Linear(16 * 14 * 14, 128),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(128, 10),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        x = self.features(x)  # (N, 16, 14, 14)
        x = x.view(x.size(0), -1)  # (N, 16 * 14 * 14)
        return self.classifier(x)
