"""The memory that a call takes, as the system counts it."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["extra_memory"]

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def extra_memory(run: Callable[[], Any]) -> float | None:
    """Call ``run``; return the MB it took at its highest above what the process held before.

    None where the system does not count, which Linux does.

    >>> taken = extra_memory(lambda: len(b"x" * 50_000_000))
    >>> taken is None or 45 < taken < 60
    True
    """
    try:
        ctypes.CDLL(None).malloc_trim(0)  # what is free already would hide what is taken
        CLEAR.write_text("5")  # the highest so far is forgotten
        before = _kilobytes("VmRSS")
    except (OSError, AttributeError, StopIteration):
        run()
        return None
    run()
    return max(_kilobytes("VmHWM") - before, 0) * 1024 / 1e6


def _kilobytes(name: str) -> int:
    lines = STATUS.read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith(f"{name}:")).split()[1])
