from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from examples._loader import Batches, in_order

ROOT = Path(__file__).parents[2]


def arrays(items: int = 23) -> dict[str, np.ndarray]:
    return {
        "image": np.arange(items * 4, dtype=np.float32).reshape(items, 2, 2),
        "label": np.arange(items),
    }


def draw(batches: Batches, epochs: int) -> list[np.ndarray]:
    return [batch["label"] for _ in range(epochs) for batch in batches.epoch()]


def test_an_epoch_shows_no_item_twice_and_drops_the_remainder():
    batches = Batches(arrays(), 5)
    assert len(batches) == 4
    for _ in range(3):
        seen = np.concatenate(draw(batches, 1))
        assert len(seen) == len(np.unique(seen)) == 20


def test_items_stay_whole():
    for batch in Batches(arrays(), 5).epoch():
        assert type(batch["image"]) is np.ndarray
        assert batch["image"].dtype == np.float32
        np.testing.assert_array_equal(batch["image"], arrays()["image"][batch["label"]])


def test_the_order_depends_on_the_seed_alone():
    one, same, other = (draw(Batches(arrays(), 5, seed=seed), 3) for seed in (7, 7, 8))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


def test_every_epoch_is_shuffled_anew():
    batches = Batches(arrays(), 5)
    first, second, third = (np.concatenate(draw(batches, 1)) for _ in range(3))
    assert not np.array_equal(first, np.sort(first))
    assert not np.array_equal(first, second)
    assert not np.array_equal(second, third)


@pytest.mark.parametrize("before", [0, 1, 3, 4, 6, 8])
def test_a_resumed_run_sees_what_an_uninterrupted_one_sees(before):
    whole = Batches(arrays(), 5, seed=3)
    expected = draw(whole, 4)

    stopped = Batches(arrays(), 5, seed=3)
    while stopped.drawn < before:
        for _ in stopped.epoch():
            if stopped.drawn == before:
                break
    state = json.loads(json.dumps(stopped.get_state()))

    resumed = Batches(arrays(), 5, seed=3)
    resumed.set_state(state)
    assert resumed.drawn == before
    rest_of_epoch = draw(resumed, 1)
    assert len(rest_of_epoch) == 4 - before % 4
    rest = rest_of_epoch + draw(resumed, 3)
    np.testing.assert_array_equal(rest[: 16 - before], expected[before:])


def test_a_state_can_be_set_back_in_the_same_run():
    batches = Batches(arrays(), 5)
    start = batches.get_state()
    first = draw(batches, 2)
    batches.set_state(start)
    np.testing.assert_array_equal(draw(batches, 2), first)


def test_a_state_of_another_run_is_refused_and_changes_nothing():
    state = Batches(arrays(), 5, seed=3).get_state()
    batches, untouched = Batches(arrays(24), 6, seed=4), Batches(arrays(24), 6, seed=4)
    with pytest.raises(ValueError, match="another run") as caught:
        batches.set_state(state)
    for clash in ("items was 23 and is 24", "batch_size was 5 and is 6", "seed was 3 and is 4"):
        assert caught.match(clash)
    with pytest.raises(ValueError, match="expected the keys"):
        batches.set_state({"drawn": 2})
    assert batches.get_state() == untouched.get_state()
    np.testing.assert_array_equal(draw(batches, 1), draw(untouched, 1))


@pytest.mark.parametrize("batch_size", [1, 5, 23, 100])
def test_evaluation_sees_every_item_in_order(batch_size):
    parts = [batch["label"] for batch in in_order(arrays(), batch_size)]
    np.testing.assert_array_equal(np.concatenate(parts), np.arange(23))
    assert {len(part) for part in parts[:-1]} <= {batch_size}


def test_misuse_is_refused():
    with pytest.raises(ValueError, match="batch_size=24 must lie between 1 and the 23 items"):
        Batches(arrays(), 24)
    with pytest.raises(ValueError, match="batch_size=0"):
        Batches(arrays(), 0)
    with pytest.raises(ValueError, match="batch_size=0"):
        in_order(arrays(), 0)
    with pytest.raises(ValueError, match="'a': 3, 'b': 4"):
        Batches({"a": np.zeros(3), "b": np.zeros(4)}, 1)
    with pytest.raises(ValueError, match="no arrays"):
        in_order({}, 1)


def test_no_warning_no_thread_and_no_process():
    code = """
import multiprocessing, threading
import numpy as np
from examples._loader import Batches, in_order
data = {"x": np.arange(100)}
batches = Batches(data, 8)
list(batches.epoch()), list(batches.epoch()), list(in_order(data, 8))
assert threading.active_count() == 1, threading.enumerate()
assert not multiprocessing.active_children()
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=ROOT, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
