"""The exercises 1-6 of the notes, in both frameworks side by side.

python examples/module_tour.py
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table


def main() -> None:
    """Run the exercises and print them beside one another."""
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument("--backend", choices=("torch", "flax", "both"), default="both")
    made.add_argument("--epochs", type=int, default=20, help="of the closing training loop")
    made.add_argument("--data", help="not used: the tour makes its own numbers")
    made.add_argument("--checkpoint", help="file to save the trained model's weights to")
    options = made.parse_args()
    tours = {"torch": torch_tour, "flax": flax_tour}
    chosen = list(tours) if options.backend == "both" else [options.backend]
    results = {name: tours[name](options.epochs, options.checkpoint) for name in chosen}
    table = Table("exercise", *chosen, show_lines=True)
    for exercise in results[chosen[0]]:
        table.add_row(exercise, *[str(results[name][exercise]) for name in chosen])
    Console().print(table)


def torch_tour(epochs: int, checkpoint: str | None) -> dict[str, Any]:
    """The exercises as the notes pose them."""
    import torch

    from fluxmod.models import torch as models

    torch.manual_seed(0)
    model = models.TwoLayerMLP(4, 8, 2)
    x = torch.from_numpy(numbers(5, 4))
    shape = tuple(model(x).shape)
    count = sum(p.numel() for p in model.parameters())
    for parameter in model.fc1.parameters():
        parameter.requires_grad = False
    model(x).sum().backward()
    frozen = [
        f"{name}: {'gradient' if p.grad is not None else 'no gradient'}"
        for name, p in model.named_parameters()
    ]
    sequential = models.sequential_mlp(4, 8, 2)
    dropout = models.DropoutNet(64)
    ones = torch.ones(1, 64)
    zeros = [int((dropout.train(mode)(ones) == 0).sum()) for mode in (True, False)]
    nested = [name for name, _ in models.TwoParts(4, 8, 2).named_parameters()]
    trained = models.TwoLayerMLP(4, 8, 2)
    losses = models.fit(
        trained,
        torch.nn.MSELoss(),
        torch.optim.Adam(trained.parameters(), lr=0.05),
        x,
        torch.from_numpy(numbers(5, 2)),
        epochs,
    )
    if checkpoint:
        torch.save(trained.state_dict(), checkpoint)
    return answers(
        shape,
        count,
        frozen,
        list(model.state_dict()),
        list(sequential.state_dict()),
        zeros,
        nested,
        losses,
    )


def flax_tour(epochs: int, checkpoint: str | None) -> dict[str, Any]:
    """The same on the Flax side."""
    import jax.numpy as jnp
    from flax import nnx

    import fluxmod
    from fluxmod import convert, nn, optim
    from fluxmod.models import flax as models

    rngs = nnx.Rngs(0)
    model = models.TwoLayerMLP(4, 8, 2, rngs=rngs)
    x = jnp.asarray(numbers(5, 4))
    shape = model(x).shape
    count = fluxmod.parameter_count(model)
    fluxmod.freeze(model, "fc1")
    wanted = nnx.DiffState(0, nn.is_trainable)
    grads = nnx.grad(lambda m: m(x).sum(), argnums=wanted)(model)
    reached = {path[0] for path, _ in nnx.to_flat_state(grads)}
    frozen = [
        f"{name}: {'gradient' if name.split('.')[0] in reached else 'no gradient'}"
        for name, _ in fluxmod.named_parameters(model)
    ]
    sequential = models.sequential_mlp(4, 8, 2, rngs=rngs)
    dropout = models.DropoutNet(64, rngs=rngs)
    ones = jnp.ones((1, 64))
    zeros = []
    for switch in (dropout.train, dropout.eval):
        switch()
        zeros.append(int((dropout(ones) == 0).sum()))
    nested = [name for name, _ in fluxmod.named_parameters(models.TwoParts(4, 8, 2, rngs=rngs))]
    trained = models.TwoLayerMLP(4, 8, 2, rngs=rngs)
    losses = models.fit(
        trained,
        nn.MSELoss(),
        nnx.Optimizer(trained, optim.Adam(lr=0.05), wrt=nn.is_trainable),
        x,
        jnp.asarray(numbers(5, 2)),
        epochs,
    )
    if checkpoint:
        convert.save(trained, checkpoint)
    keys = [list(fluxmod.state_dict(m)) for m in (model, sequential)]
    return answers(shape, count, frozen, *keys, zeros, nested, losses)


def answers(
    shape: Any,
    count: int,
    frozen: list[str],
    by_hand: list[str],
    sequential: list[str],
    zeros: list[int],
    nested: list[str],
    losses: list[float],
) -> dict[str, str]:
    """Word the results of a tour."""
    return {
        "1 two-layer MLP: output shape": str(tuple(shape)),
        "2 number of parameters": str(count),
        "3 fc1 frozen, still listed": "\n".join(frozen),
        "4 keys by hand": "\n".join(by_hand),
        "4 keys of Sequential": "\n".join(sequential),
        "5 zeros of 64 in train, eval": f"{zeros[0]}, {zeros[1]}",
        "6 nested names": "\n".join(nested),
        "training loop: loss": f"{losses[0]:.4f} -> {losses[-1]:.4f}" if losses else "not run",
    }


def numbers(*shape: int) -> np.ndarray:
    """The same numbers for both frameworks."""
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


if __name__ == "__main__":
    main()
