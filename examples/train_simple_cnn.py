"""Train the notes' SimpleCNN, in torch or in Flax, on the same batches in the same order.

python examples/train_simple_cnn.py --backend flax --epochs 5
python examples/train_simple_cnn.py --backend torch --data fashion-mnist --download
"""

from __future__ import annotations

from _classify import run
from _loop import parser


def main() -> None:
    """Read the options and train."""
    made = parser("Train SimpleCNN on 28x28 images.", epochs=5)
    made.add_argument("--download", action="store_true", help="fetch Fashion-MNIST into --data")
    run("SimpleCNN", made.parse_args(), channel=True)


if __name__ == "__main__":
    main()
