"""The certificate: rows, verdict, environment; as text, JSON and HTML."""

from __future__ import annotations

import json
import math
import platform
from dataclasses import asdict, dataclass, field
from importlib import metadata
from typing import Any

from fluxmod._errors import ParityError

from .compare import Row
from .criteria import CRITERIA

__all__ = ["Report", "environment"]


@dataclass(frozen=True, slots=True)
class Report:
    """The result of ``parity.check``: every comparison, and what it was made with."""

    model: str
    rows: tuple[Row, ...]
    seed: int
    environment: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether something was compared and nothing failed."""
        return bool(self.rows) and not self.failures and any(r.passed for r in self.rows)

    @property
    def failures(self) -> tuple[Row, ...]:
        """Rows that failed."""
        return tuple(row for row in self.rows if row.passed is False)

    @property
    def located(self) -> str | None:
        """Path of the first failing submodule whose own children all pass; None if all pass.

        An empty path is the model itself.
        """
        if not self.failures:
            return None
        failing = list(dict.fromkeys(row.path for row in self.failures if row.path))
        deepest = [p for p in failing if not any(q != p and q.startswith(p + ".") for q in failing)]
        return deepest[0] if deepest else ""

    def by_level(self) -> dict[str, tuple[Row, ...]]:
        """Rows grouped by level, in order of the levels."""
        return {
            level: tuple(row for row in self.rows if row.level == level)
            for level in CRITERIA
            if any(row.level == level for row in self.rows)
        }

    def worst(self, level: str) -> Row | None:
        """Return the row of a level that is closest to, or furthest beyond, its limit."""
        rows = [row for row in self.rows if row.level == level and row.passed is not None]
        return max(rows, key=_severity, default=None)

    def __str__(self) -> str:
        return self.text()

    def text(self) -> str:
        """Describe the result: one line per level with its worst row, then every failure."""
        verdict = "equal" if self.passed else "NOT equal"
        lines = [f"{self.model}: {verdict}   (seed {self.seed})"]
        for level, rows in self.by_level().items():
            lines.append(f"  {_level_line(level, rows, self.worst(level))}")
        if self.failures:
            where = self.located or "the model's own forward"
            lines.append(f"  first fault: {where}")
        for row in self.failures[:12]:
            name = f"{row.path}: " if row.path else ""
            lines.append(
                f"    {row.level} {row.where}  {name}{row.what}  error {row.error:.2e}, "
                f"limit {row.limit:.2e}" + (f"  ({row.note})" if row.note else "")
            )
        if len(self.failures) > 12:
            lines.append(f"    ... and {len(self.failures) - 12} more")
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data: verdict, worst error by level, all rows, environment."""
        return {
            "model": self.model,
            "passed": self.passed,
            "located": self.located,
            "seed": self.seed,
            "levels": {
                level: {
                    "passed": _verdict(rows),
                    "worst": _plain(asdict(worst)) if (worst := self.worst(level)) else None,
                    "rows": len(rows),
                }
                for level, rows in self.by_level().items()
            },
            "rows": [_plain(asdict(row)) for row in self.rows],
            "environment": self.environment,
            "notes": list(self.notes),
        }

    def to_json(self, indent: int | None = 2) -> str:
        """Return ``to_dict`` as JSON; infinities and NaN are strings."""
        return json.dumps(self.to_dict(), indent=indent, allow_nan=False)

    def to_html(self) -> str:
        """Return one self-contained page with a plot of the error by layer."""
        from .html import page

        return page([self])

    def require(self) -> Report:
        """Return the report, or raise ParityError with its text if something failed."""
        if not self.passed:
            raise ParityError(self.text())
        return self


def environment() -> dict[str, str]:
    """Return versions and devices, for the record."""
    import jax

    packages = ("fluxmod", "jax", "jaxlib", "flax", "optax", "torch", "numpy")
    versions = {}
    for name in packages:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed"
    devices = ", ".join(sorted({d.device_kind for d in jax.devices()}))
    return {
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        **versions,
        "jax devices": devices,
    }


def _level_line(level: str, rows: tuple[Row, ...], worst: Row | None) -> str:
    verdict = _verdict(rows)
    mark = {True: "pass", False: "FAIL", None: "skip"}[verdict]
    text = f"{level}  {CRITERIA[level].shows:<11} {mark}"
    if worst is None:
        return f"{text}  {rows[0].note}"
    run = sum(row.passed is not None for row in rows)
    text += f"  worst {worst.error:.1e} of {worst.limit:.1e}"
    place = f"{worst.path}: {worst.what}" if worst.path else worst.what
    return f"{text}  {place} [{worst.where}]  ({run} comparisons)"


def _verdict(rows: tuple[Row, ...]) -> bool | None:
    ran = [row.passed for row in rows if row.passed is not None]
    return all(ran) if ran else None


def _severity(row: Row) -> float:
    if math.isnan(row.error) or math.isinf(row.error):
        return math.inf
    return row.error / row.limit if row.limit else (math.inf if row.error else 0.0)


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {
        key: str(value) if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in row.items()
    }
