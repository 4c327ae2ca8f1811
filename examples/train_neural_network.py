"""Train the notes' NeuralNetwork, in torch or in Flax, on the same batches in the same order.

python examples/train_neural_network.py --backend flax --epochs 10
"""

from __future__ import annotations

from _classify import run
from _loop import parser


def main() -> None:
    """Read the options and train."""
    made = parser("Train NeuralNetwork on 28x28 images.", epochs=10)
    made.add_argument("--download", action="store_true", help="fetch Fashion-MNIST into --data")
    run("NeuralNetwork", made.parse_args(), channel=False)


if __name__ == "__main__":
    main()
