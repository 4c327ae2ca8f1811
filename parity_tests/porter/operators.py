"""The page of operators: ``python -m parity_tests.porter.operators docs/porter-operators.md``.

It joins what the last runs of ``parity_tests/porter/test_ops.py`` left behind.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fluxmod.porter import lower

from .ops import BEYOND, NO_VALUES, OPERATORS, RECORDS, TIES

LAYERS = ("lstm", "gru", "rnn_tanh", "lstm_cell", "_weight_norm", "dropout", "feature_dropout")
"""Operators that reach the porter as a layer of their own, or as a parametrization."""


LONGEST = 90
"""Letters of a reason: the same one differs in its end."""


def plain(op: str) -> str:
    """An operator's name without namespace, overload, and the mark of writing in place."""
    name = op.removeprefix("aten.").partition(".")[0]
    return name if name.startswith("__") else name.rstrip("_")


def page(records: list[dict[str, Any]]) -> Iterator[str]:
    """The lines of the page."""
    by_name: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        for op in record["reached"]:
            by_name.setdefault(plain(op), []).append(record)
    rows = [(op, models, by_name.get(plain(op), [])) for op, models in OPERATORS.items()]
    tested = sum(bool(found) for *_, found in rows)
    run = sum(r["run"] for r in records)
    refused = sum(sum(r["refused"].values()) for r in records)
    yield "# Operators of the porter"
    yield ""
    yield (
        "Operators that 207 public models use once `torch.export` has captured them, by the "
        "number of models, and below them losses and others that none of these uses as it stands. "
        "Each is proven on torch's own samples (`op_db`): a module that calls it is ported, and "
        "outputs and gradients are compared with torch's. *L1* is the worst relative error in "
        "float64, limit 1e-10; *L2* and *L6* are the worst errors in float32 and bfloat16 as "
        "shares of what torch's own error allows; integers and bools are exact. `make test` takes "
        "one sample of each entry, `make test-all` all."
    )
    yield ""
    errors, raised = sum(r["errors"] for r in records), sum(r["raised"] for r in records)
    yield (
        f"{tested} of {len(rows)} operators met in {len(records)} entries of `op_db`; {run} "
        f"samples run and equal, {refused} refused with an error that names the obstacle; of "
        f"{errors} inputs that torch refuses {raised} are refused, the others for the values of "
        "their indices, which a compiled program does not know."
    )
    yield ""
    yield "| operator | models | proven by | samples | L1 | L2 | L6 | refused |"
    yield "|---|---|---|---|---|---|---|---|"
    for op, models, found in rows:
        if found:
            names = ", ".join(sorted({r["name"].partition("[")[0] for r in found})[:3])
            worst = [max(r["worst"].get(k, 0.0) for r in found) for k in ("L1", "L2", "L6")]
            shown = "{:.0e} | {:.2f} | {:.2f}".format(*worst)
            reasons = "; ".join(sorted({shortened(s) for r in found for s in r["refused"]}))
            count = f"{sum(r['run'] for r in found)}/{sum(r['available'] for r in found)}"
            yield f"| `{op}` | {models} | {names} | {count} | {shown} | {reasons} |"
        else:
            yield f"| `{op}` | {models} | {elsewhere(op)} | | | | | |"
    yield ""
    yield "Entries without a comparison: " + listed(NO_VALUES)
    yield ""
    for level, reasons in BEYOND.items():
        yield f"Entries beyond the limit of {level}, at most four times: " + listed(reasons)
    yield ""
    yield (
        "The values alone are compared of bools, integers and bfloat16, which have many equal "
        f"elements in an order that torch leaves open: {', '.join(TIES)}."
    )


def shortened(reason: str) -> str:
    """A reason without the shapes and numbers that long ones end in."""
    return reason if len(reason) <= LONGEST else f"{reason[:LONGEST].rstrip()} ..."


def listed(reasons: dict[str, str]) -> str:
    """Names with their reasons in one sentence."""
    return "; ".join(f"{name} ({why})" for name, why in reasons.items()) + "."


def elsewhere(op: str) -> str:
    """What there is for an operator that no entry of ``op_db`` reaches."""
    if plain(op) in LAYERS:
        return "as a layer: `docs/coverage.md`"
    if lower.rule_of(op) is not None:
        return "a rule; no entry of `op_db` reaches it"
    return "structure: it leaves no text of its own, or is refused by name"


def main() -> None:
    """Write the page."""
    records = [json.loads(path.read_text()) for path in sorted(RECORDS.glob("*.json"))]
    Path(sys.argv[1]).write_text("\n".join(page(records)) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
