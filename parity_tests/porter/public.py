"""Public models, unchanged and unwrapped: does the port give torch's outputs?

``python -m parity_tests.porter.public docs/public-models.md`` takes every model of the installed
``transformers`` (its base class, with random weights and a small configuration), the first of each
architecture of ``timm`` and the smallest of each file of ``torchvision``; outcomes are kept as JSON
beside it, and what that file has is not run again unless named. A model counts where torch itself
runs it. Forward in evaluation, float64 where torch can,
float32 else; certificates with gradients and training are ``docs/porter-table.md``'s.
"""

from __future__ import annotations

import json
import random
import signal
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from parity_tests.porter.public_models import every

SECONDS = 240
"""What a model may take, porting and compiling included."""
LIMIT, LIMIT32 = 4e-6, 1e-4
"""Of float64, in which most models still compute some part in float32; and of float32."""
EQUAL, DIFFERS, REFUSED, FAILED = "equal", "DIFFERS", "refused", "FAILED"
NO_MODEL, RANDOM = "not run by torch", "random"


@dataclass(frozen=True)
class Outcome:
    """One model: how far the port is from torch, or why there is none."""

    name: str
    verdict: str
    error: float | None = None
    seconds: float = 0.0
    lines: int = 0
    detail: str = ""


def run(name: str) -> Outcome:
    """Port one model and compare its outputs with torch's."""
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGALRM, _late)
    signal.alarm(SECONDS)
    try:
        try:
            model, args, kwargs = every()[name]()
            torch_runs = _expected(model, args, kwargs)
        except TimeoutError:
            raise
        except Exception as error:
            return Outcome(name, NO_MODEL, detail=_line(error))
        if _is_random(model, *torch_runs):
            return Outcome(name, RANDOM, detail="torch gives something else at each call")
        return _compared(name, model, *torch_runs)
    except TimeoutError:
        return Outcome(name, FAILED, seconds=SECONDS, detail=f"took over {SECONDS} s")
    finally:
        signal.alarm(0)


def _expected(model: Any, args: Any, kwargs: Any) -> tuple[Any, Any, Any, float]:
    """Inputs, torch's outputs and the limit: in float64 where torch can."""
    with torch.no_grad():
        try:
            doubled = (
                tuple(map(_double, args)),
                {key: _double(value) for key, value in kwargs.items()},
            )
            return *doubled, model.double()(*doubled[0], **doubled[1]), LIMIT
        except (RuntimeError, TypeError):
            return args, kwargs, model.float()(*args, **kwargs), LIMIT32


def _is_random(model: Any, args: Any, kwargs: Any, expected: Any, limit: float) -> bool:
    from fluxmod.parity._trees import leaves

    with torch.no_grad():
        again = model(*args, **kwargs)
    return _distance(leaves(_plain(again)), leaves(_plain(expected))) > limit


def _double(value: torch.Tensor) -> torch.Tensor:
    return value.double() if value.is_floating_point() else value


def _late(*_: Any) -> None:
    raise TimeoutError


def _compared(
    name: str, model: Any, args: Any, kwargs: Any, expected: Any, limit: float
) -> Outcome:
    import jax

    from fluxmod import porter
    from fluxmod._errors import PortError
    from fluxmod.parity._trees import leaves

    jax.config.update("jax_enable_x64", limit == LIMIT)
    start = time.perf_counter()
    try:
        ported = porter.port(model, *args, **kwargs)
        seconds = time.perf_counter() - start
        lines = len(porter.source(ported).splitlines())
        ported.eval()
        got = porter.feed(ported, *args, **kwargs)
        error = _distance(leaves(_plain(got)), leaves(_plain(expected)))
    except PortError as refused:
        return Outcome(name, REFUSED, detail=_line(refused))
    except TimeoutError:
        raise
    except Exception as failed:
        where = traceback.extract_tb(failed.__traceback__)[-1]
        place = f"{Path(where.filename).name}:{where.lineno}"
        return Outcome(name, FAILED, detail=f"{_line(failed)} ({place})")
    finally:
        jax.clear_caches()
    verdict = EQUAL if error <= limit else DIFFERS
    return Outcome(name, verdict, error, round(seconds, 1), lines)


def _plain(output: Any) -> Any:
    if hasattr(output, "items"):
        return {k: _plain(v) for k, v in output.items() if not type(v).__name__.endswith("Cache")}
    return output


def _distance(got: Any, expected: Any) -> float:
    """The largest difference, relative to the largest value of each output."""
    pairs = list(zip(list(got), list(expected), strict=True))
    worst = 0.0
    for (_, ours), (_, theirs) in pairs:
        a, b = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
        if a.shape != b.shape:
            return float("inf")
        both = ~(np.isnan(a) & np.isnan(b)) & ~((a == b) & np.isinf(a))
        if both.any():
            a, b = a[both], b[both]
            worst = max(worst, float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-30)))
    return worst if worst == worst else float("inf")


def _line(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {' '.join(lines[:3])[:200]}"


# --- all of them ----------------------------------------------------------------------------------


def outcomes(names: list[str]) -> Iterator[Outcome]:
    """Run models in two processes, which are renewed now and then."""
    with get_context("spawn").Pool(2, maxtasksperchild=15) as processes:
        yield from processes.imap_unordered(run, names)


def table(found: list[Outcome], left: int) -> str:
    """The document: totals, what is not equal, all models; ``left`` have not been run."""
    counts = Counter(x.verdict for x in found)
    runs = len(found) - counts[NO_MODEL] - counts[RANDOM]
    about = (__doc__ or "").partition("\n\n")[2].strip().replace("``", "`")
    others = [x for x in found if x.verdict not in (EQUAL, NO_MODEL, RANDOM)]
    return "\n".join(
        [
            "# Public models", "", about, "",
            f"Of {runs} models that torch runs here {counts[EQUAL]} are equal "
            f"({counts[EQUAL] / max(runs, 1):.1%}); "
            + ", ".join(f"{counts[v]} {v}" for v in (REFUSED, DIFFERS, FAILED))
            + f". {counts[RANDOM]} more are random in evaluation too, {counts[NO_MODEL]} do not "
            "run in torch with the configuration made here, "
            f"{left} have not been tried.",
            "", "## Not equal", "", "| model | | why |", "|---|---|---|",
            *(f"| {x.name} | {x.verdict} | {_cell(x)} |" for x in others),
            "", "## Equal", "", "| model | error | port, s | lines |", "|---|---|---|---|",
            *(
                f"| {x.name} | {x.error:.0e} | {x.seconds:.1f} | {x.lines} |"
                for x in found if x.verdict == EQUAL
            ),
            "",
        ]
    )  # fmt: skip


def _cell(x: Outcome) -> str:
    text = x.detail or f"by {x.error:.0e}"
    return text.replace("|", "\\|")


def main(target: str, *wanted: str) -> None:
    """Run the models named, or those without an outcome; write the table and the outcomes."""
    path = Path(target)
    data = path.with_suffix(".json")
    known: dict[str, Outcome] = {}
    if data.exists():
        known = {x["name"]: Outcome(**x) for x in json.loads(data.read_text(encoding="utf-8"))}
    all_names = list(every())
    names = [n for n in all_names if (n.endswith(wanted) if wanted else n not in known)]
    random.Random(0).shuffle(names)  # so that a run which is stopped is a sample
    for done in outcomes(names):
        known[done.name] = done
        print(f"{done.name:45} {done.verdict:10} {_cell(done)}", flush=True)
        found = sorted(known.values(), key=lambda x: x.name)
        data.write_text(json.dumps([asdict(x) for x in found], indent=1) + "\n", encoding="utf-8")
        left = sum(name not in known for name in all_names)
        path.write_text(table(found, left), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
