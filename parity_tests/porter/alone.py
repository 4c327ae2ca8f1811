"""Run written files where neither fluxmod nor torch can be imported.

``python alone.py FOLDER NAME...`` runs ``FOLDER/NAME.py`` on ``NAME.inputs.npz`` with the weights
``NAME.safetensors`` and writes what the model computes to ``NAME.got.npz``.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

FORBIDDEN = ("fluxmod", "torch", "parity_tests")


class Refuse:
    """A finder in front of all others that knows nothing."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name.partition(".")[0] in FORBIDDEN:
            raise ImportError(f"{name} is not there.")


def measured(model: nnx.Module, inputs: dict[str, Any]) -> dict[str, np.ndarray]:
    """Outputs in both modes, gradients, and what training leaves in the model."""
    found: dict[str, Any] = {}
    given = {name: jnp.asarray(value) for name, value in inputs.items()}

    def loss(model: nnx.Module, given: dict[str, Any]) -> tuple[jax.Array, Any]:
        out = model(**given)
        floats = [x for x in jax.tree.leaves(out) if jnp.issubdtype(x.dtype, jnp.floating)]
        return sum((x * x).sum() for x in floats), out

    def keep(what: str, tree: Any) -> None:
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            found[f"{what}{jax.tree_util.keystr(path)}"] = np.asarray(leaf)

    model.eval()
    keep("evaluation", nnx.jit(lambda model, given: model(**given))(model, given))
    model.train()
    (_, out), gradients = nnx.jit(nnx.value_and_grad(loss, has_aux=True))(model, given)
    keep("training", out)
    keep("gradient", gradients)
    keep("state", nnx.state(model, nnx.Not(nnx.RngState)))
    return found


def started(model: nnx.Module) -> dict[str, np.ndarray]:
    """What a model is drawn with."""
    leaves = jax.tree_util.tree_leaves_with_path(nnx.state(model, nnx.Not(nnx.RngState)))
    return {f"start{jax.tree_util.keystr(path)}": np.asarray(leaf) for path, leaf in leaves}


def made(name: str, file: Any) -> nnx.Module:
    """The model of a written file."""
    build = next(getattr(file, n) for n in file.__all__ if n.lower() == name)
    takes = inspect.signature(build.__init__ if inspect.isclass(build) else build).parameters
    return build(rngs=nnx.Rngs(0)) if "rngs" in takes else build()


if __name__ == "__main__":
    sys.meta_path.insert(0, Refuse())
    folder = Path(sys.argv[1])
    sys.path.insert(0, str(folder))
    for each in sys.argv[2:]:
        file = importlib.import_module(each)
        model = made((folder / f"{each}.name").read_text(), file)
        start = started(model)
        file.load(model, folder / f"{each}.safetensors")
        got = measured(model, dict(np.load(folder / f"{each}.inputs.npz")))
        np.savez(folder / f"{each}.got.npz", **start, **got)
    loaded = {name.partition(".")[0] for name in sys.modules}
    assert not loaded & set(FORBIDDEN)
