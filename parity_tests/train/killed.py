"""Kill a process that saves checkpoints, again and again, and look at what it leaves.

    python -m parity_tests.train.killed FOLDER KILLS SEED [careless]

The parent imports everything, starts no jax backend, and forks. Each child restores the newest
checkpoint, checks it bit for bit, and saves in a tight loop until it is killed. One line of JSON
tells what was seen. A careless child writes each checkpoint where it is to be, in place.
"""

from __future__ import annotations

import json
import os
import random
import select
import signal
import sys
import time
import traceback
from pathlib import Path

import numpy as np
import orbax.checkpoint as ocp
from jax._src import xla_bridge
from orbax.checkpoint._src.path import atomicity

from fluxmod.train import Checkpoints

CARELESS = "careless" in sys.argv
READY = 2**62


class Numbers:
    """Stands for a trainer whose whole state follows from the number of steps."""

    def __init__(self) -> None:
        self.steps_done = 0

    def state(self) -> dict[str, np.ndarray]:
        draw = np.random.default_rng(self.steps_done)
        return {
            "params/kernel": draw.normal(size=(64, 48)),
            "params/bias": draw.normal(size=48).astype(np.float32),
            "optimizer/count": np.array(self.steps_done, np.int32),
        }

    def load_state(self, arrays: dict[str, np.ndarray], *, steps_done: int) -> None:
        self.steps_done = steps_done
        for name, want in self.state().items():
            got = np.asarray(arrays[name])
            assert (got.dtype, got.tobytes()) == (want.dtype, want.tobytes()), name


def extra_of(step: int) -> dict[str, object]:
    return {"step": step, "iterator": np.random.default_rng(step).bytes(100)}


def check(folder: Path, at_least: int) -> tuple[Checkpoints, Numbers]:
    """Restore the newest checkpoint; it must be whole, and no older than the last one reported."""
    checkpoints, numbers = Checkpoints(folder, keep=2), Numbers()
    if CARELESS:
        checkpoints._orbax = ocp.Checkpointer(
            ocp.CompositeCheckpointHandler(),
            temporary_path_class=atomicity.CommitFileTemporaryPath,
        )
    if checkpoints.latest is not None or at_least:
        extra = checkpoints.restore(numbers)
        assert extra == extra_of(numbers.steps_done)
    assert numbers.steps_done >= at_least, (numbers.steps_done, at_least)
    return checkpoints, numbers


def child(folder: Path, at_least: int, report: int, *, forever: bool) -> None:
    checkpoints, numbers = check(folder, at_least)
    os.write(report, READY.to_bytes(8, "big"))
    while forever:
        numbers.steps_done += 1
        checkpoints.save(numbers, extra=extra_of(numbers.steps_done))
        os.write(report, numbers.steps_done.to_bytes(8, "big"))


def fork(folder: Path, at_least: int, *, forever: bool) -> tuple[int, int]:
    """Start a child; return its id and the pipe on which it reports."""
    read, write = os.pipe()
    pid = os.fork()
    if pid:
        os.close(write)
        return pid, read
    os.close(read)
    try:
        child(folder, at_least, write, forever=forever)
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)


class Reports:
    """What a child writes to its pipe: that it is ready, then each step that is saved."""

    def __init__(self, read: int) -> None:
        self.read, self.saved = read, 0

    def wait(self) -> None:
        """Wait for the next report; a child that has none failed."""
        if not select.select([self.read], [], [], 60)[0] or not self._take(8):
            raise SystemExit("a child could not restore what the one before it left")

    def rest(self) -> None:
        """Take what came until the child was killed."""
        while self._take(4096):
            pass
        os.close(self.read)

    def _take(self, size: int) -> bool:
        data = os.read(self.read, size)
        steps = [int.from_bytes(data[i : i + 8], "big") for i in range(0, len(data), 8)]
        self.saved = max([self.saved, *(step for step in steps if step != READY)])
        return bool(data)


def wait_for_a_random_moment(reports: Reports, typical: float) -> float:
    """Let the child save up to two times and some part of the next; return how long one took."""
    reports.wait()
    started, saves = time.monotonic(), random.randrange(3)
    for _ in range(saves):
        reports.wait()
    if saves:
        typical = (time.monotonic() - started) / saves
    time.sleep(random.uniform(0, 1.2 * typical))
    return typical


def main(folder: Path, kills: int, seed: int) -> None:
    random.seed(seed)
    saved, interrupted, typical = 0, 0, 0.05
    for _ in range(kills):
        pid, read = fork(folder, saved, forever=True)
        reports = Reports(read)
        typical = wait_for_a_random_moment(reports, typical)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        reports.rest()
        saved = max(saved, reports.saved)
        interrupted += any(folder.glob("*.orbax-checkpoint-tmp"))
    pid, read = fork(folder, saved, forever=False)
    Reports(read).wait()
    assert os.waitpid(pid, 0)[1] == 0
    started = xla_bridge.backends_are_initialized()
    print(json.dumps({"saved": saved, "interrupted": interrupted, "parent_started_jax": started}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
