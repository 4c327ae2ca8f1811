"""Torch source beside what the porter makes of it.

``python -m parity_tests.porter.gallery docs/gallery.md`` writes the page. Generated sources are
those under review in ``golden/``; a test holds the page to them.
"""

from __future__ import annotations

import inspect
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import torch

from fluxmod import parity, porter
from parity_tests.porter.test_source import GOLDEN
from parity_tests.porter.zoo import ZOO

__all__ = ["SHOWN"]

SHOWN = {
    "resnet18": "Residual blocks, batch statistics, stages that the constructor builds in a loop.",
    "mobilenet": "Depthwise convolutions, squeeze and excitation, hard swish.",
    "unet": "An encoder and a decoder joined by concatenation and padding.",
    "vit": "A vision transformer: patches, a class token, attention written out.",
    "gpt": "A language model with tied embeddings and a causal mask in a buffer.",
    "tcn": "Dilated convolutions under the older `weight_norm`.",
    "gcn": "Graph convolution: gather, weigh, `index_add`.",
    "in_place": "Writes through views and slices, which JAX arrays do not have.",
}
INTRODUCTION = (
    "Eight of the models that the suite ports: the torch source, what `fluxmod.port` writes, and "
    "the certificate of the two. Nothing is edited. "
    "`python -m parity_tests.porter.gallery docs/gallery.md` renews the page."
)
OPTIONS = parity.Options(levels=("L0", "L1", "L5"))


def torch_source(model: torch.nn.Module) -> str:
    """The classes of a model in the order of their file."""
    classes = {type(m) for m in model.modules() if not type(m).__module__.startswith("torch.")}
    ordered = sorted(classes, key=lambda cls: inspect.getsourcelines(cls)[1])
    return "\n\n\n".join(textwrap.dedent(inspect.getsource(cls)).rstrip() for cls in ordered)


def section(name: str) -> Iterator[str]:
    """One model: torch's source, the generated source, the certificate."""
    model, inputs = ZOO[name].make()
    ported = porter.port(model, *inputs)
    report = parity.check(model, ported, *inputs, options=OPTIONS)
    yield from (f"## {name}", "", SHOWN[name], "", "torch:", "", "```python", torch_source(model))
    yield from ("```", "", "Ported:", "", "```python", (GOLDEN / f"{name}.py").read_text().rstrip())
    yield from ("```", "", "Certificate:", "", "```", report.text().rstrip(), "```", "")


def main() -> None:
    """Write the page."""
    lines = [
        "# Gallery",
        "",
        INTRODUCTION,
        "",
    ]
    for name in SHOWN:
        lines += section(name)
    Path(sys.argv[1]).write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
