"""What a user names on the command line: a torch module, and inputs to call it with."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import typer

__all__ = ["drawn_inputs", "find", "imported"]

_SPEC = re.compile(r"^(?:(\w+)=)?(\w+)\[([\d, ]*)\](?:<(\d+))?$")


def find(target: str, init: str) -> Callable[[], Any]:
    """What builds ``pkg.module:Name`` with constructor arguments in JSON.

    A folder with a ``config.json`` is a model of transformers, read from there alone.

    Raises:
        ValueError: ``init`` is no JSON.
        typer.BadParameter: there is no such class.
    """
    settings = json.loads(init)
    args, kwargs = ((), settings) if isinstance(settings, dict) else (tuple(settings), {})
    if (Path(target) / "config.json").is_file():
        return partial(_pretrained, target, kwargs)
    return partial(imported(target), *args, **kwargs)


def imported(target: str) -> Any:
    """What ``pkg.module:Name`` names; the current folder comes first, as with ``python -m``.

    Raises:
        typer.BadParameter: there is no such thing.
    """
    module, _, name = target.partition(":")
    if not name:
        raise typer.BadParameter(f"{target!r}: expected pkg.module:Class.")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise typer.BadParameter(f"{target!r}: {error}") from None


def _pretrained(folder: str, settings: dict[str, Any]) -> Any:
    """The model whose weights a folder holds, of the class that its configuration names."""
    from fluxmod._optional import require

    transformers = require("transformers", extra="test", needed_for="a model's folder")
    architectures = json.loads((Path(folder) / "config.json").read_text()).get("architectures")
    name = (architectures or ["AutoModel"])[0]
    cls = getattr(transformers, name, None)
    if cls is None:
        version = transformers.__version__
        raise typer.BadParameter(
            f"{folder}: config.json names {name}; transformers {version} has none."
        )
    return cls.from_pretrained(folder, local_files_only=True, **settings).eval()


def drawn_inputs(specs: list[str]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Draw example inputs of the given dtypes and shapes, always the same.

    Raises:
        ValueError: a text is no description of an input.
    """
    import torch

    generator = torch.Generator().manual_seed(0)
    args, kwargs = [], {}
    for spec in specs:
        match = _SPEC.match(spec.strip())
        kind = getattr(torch, match[2], None) if match else None
        if match is None or not isinstance(kind, torch.dtype):
            raise ValueError(f"--input {spec!r}: expected dtype[sizes], as in int64[2,16]<100.")
        shape = [int(n) for n in match[3].split(",") if n.strip()]
        if kind.is_floating_point:
            value = torch.randn(shape, generator=generator, dtype=torch.float32).to(kind)
        else:
            high = 2 if kind == torch.bool else int(match[4] or 2)
            value = torch.randint(0, high, shape, generator=generator).to(kind)
        if match[1]:
            kwargs[match[1]] = value
        else:
            args.append(value)
    return tuple(args), kwargs
