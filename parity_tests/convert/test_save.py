"""Written files are whole, readable by torch and safetensors themselves, and replace cleanly."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch
from flax import nnx
from safetensors import safe_open
from torch import nn as tnn

from fluxmod import convert, nn
from fluxmod._errors import ConvertError, DtypeError
from parity_tests.compare import bitwise


class Tied(nn.Module):
    def __init__(self):
        self.first = nn.Linear(3, 3, rngs=nnx.Rngs(0))
        self.norm = nn.BatchNorm1d(3)
        self.second = nn.Linear(3, 3, rngs=nnx.Rngs(1))
        self.second.kernel = self.first.kernel


class TorchTied(tnn.Module):
    def __init__(self):
        super().__init__()
        self.first = tnn.Linear(3, 3)
        self.norm = tnn.BatchNorm1d(3)
        self.second = tnn.Linear(3, 3)
        self.second.weight = self.first.weight


@pytest.fixture
def model():
    return Tied()


def read(path):
    return {key: weight.load() for key, weight in convert.open_weights(path).items()}


def sorted_(mapping):
    return {key: mapping[key] for key in sorted(mapping)}


def names(folder):
    return sorted(p.name for p in folder.iterdir())


SUFFIXES = [".safetensors", ".pt", ".pth", ".bin"]


# --- one file -----------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_was_written_is_read_by_both_sides(model, tmp_path, suffix):
    path = tmp_path / "deep" / f"w{suffix}"
    assert convert.save(model, path) == path
    want = convert.to_torch(model)
    bitwise(sorted_(read(path)), sorted_(want))
    if suffix == ".safetensors":
        state = safetensors.torch.load_file(path)
    else:
        state = torch.load(path, weights_only=True)
    theirs = TorchTied()
    theirs.load_state_dict(state, strict=True)
    bitwise(theirs.state_dict(), want)
    again = Tied()
    convert.to_flax(path, again)
    bitwise(convert.to_torch(again), want)
    assert names(path.parent) == [path.name]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("kind", ["torch", "state_dict", "numpy", "source", "path"])
def test_every_kind_of_source_can_be_written(tmp_path, suffix, kind):
    theirs = TorchTied()
    first = tmp_path / "first.safetensors"
    source = {
        "torch": lambda: theirs,
        "state_dict": theirs.state_dict,
        "numpy": lambda: {k: v.numpy() for k, v in theirs.state_dict().items()},
        "source": lambda: convert.read(theirs),
        "path": lambda: convert.save(theirs, first),
    }[kind]()
    path = convert.save(source, tmp_path / f"w{suffix}")
    bitwise(sorted_(read(path)), sorted_(theirs.state_dict()))


def test_a_tie_is_stored_once_in_a_torch_file_and_twice_by_name_in_safetensors(model, tmp_path):
    tied = torch.load(convert.save(model, tmp_path / "w.pt"), weights_only=True)
    assert tied["first.weight"].data_ptr() == tied["second.weight"].data_ptr()
    assert convert.open_weights(tmp_path / "w.pt").tied() == [["first.weight", "second.weight"]]
    plain = safetensors.torch.load_file(convert.save(model, tmp_path / "w.safetensors"))
    assert torch.equal(plain["first.weight"], plain["second.weight"])


def test_names_that_share_a_variable_in_two_layouts_are_both_right(tmp_path):
    """An embedding tied to a bare parameter has another order of axes under its other name."""

    class Net(nn.Module):
        def __init__(self):
            self.fc = nn.Linear(2, 3, rngs=nnx.Rngs(0))
            self.table = self.fc.kernel

    net = Net()
    want = convert.to_torch(net)
    assert want["fc.weight"].shape == want["table"].shape[::-1]
    for suffix in (".pt", ".safetensors"):
        bitwise(sorted_(read(convert.save(net, tmp_path / f"w{suffix}"))), sorted_(want))


def test_strided_arrays_are_written_by_value(tmp_path):
    """safetensors.numpy writes memory as it lies: this is the trap that save() avoids."""
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    low = array.astype(ml_dtypes.bfloat16)
    views = {"back": array[::-1], "bf": low.T, "half": array[:, ::2], "t": array.T}
    for name in ("w.safetensors", "w.pt"):
        bitwise(sorted_(read(convert.save(views, tmp_path / name))), views)
    trap = tmp_path / "trap.safetensors"
    safetensors.numpy.save_file({"t": array.T}, trap)
    assert not np.array_equal(safetensors.numpy.load_file(trap)["t"], array.T)


def test_jax_arrays_scalars_and_empty_arrays_are_written(tmp_path):
    given = {"a": jnp.ones(3, jnp.bfloat16), "b": np.float32(2).reshape(()), "c": np.ones((0, 3))}
    for suffix in (".pt", ".safetensors"):
        bitwise(sorted_(read(convert.save(given, tmp_path / f"w{suffix}"))), given)


def test_metadata_is_kept_and_says_whose_layout_it_is(model, tmp_path):
    path = convert.save(model, tmp_path / "w.safetensors", metadata={"step": "7"})
    with safe_open(path, "numpy") as file:
        assert file.metadata() == {"format": "pt", "step": "7"}


# --- shards -------------------------------------------------------------------------------------


def many(count=6, size=100):
    return {f"w{i}": np.full(size, i, np.float32) for i in range(count)}


@pytest.mark.parametrize(
    ("limit", "shards"), [(400, 6), (800, 3), ("1KB", 3), ("0.8 kb", 3), ("1.2KB", 2), (1, 6)]
)
def test_shards_hold_no_more_than_asked(tmp_path, limit, shards):
    index = convert.save(many(), tmp_path / "model.safetensors", max_shard_size=limit)
    assert index.name == "model.safetensors.index.json"
    files = [n for n in names(tmp_path) if n != index.name]
    wanted = [f"model-{i + 1:05d}-of-{shards:05d}.safetensors" for i in range(shards)]
    assert files == wanted
    content = json.loads(index.read_text())
    assert content["metadata"]["total_size"] == 2400
    assert list(content["weight_map"]) == list(many())
    for path in (index, tmp_path, tmp_path / "model.safetensors"):
        bitwise(read(path), many())
    together = {k: v for f in files for k, v in safetensors.numpy.load_file(tmp_path / f).items()}
    bitwise(sorted_(together), many())


@pytest.mark.parametrize("limit", [None, 2400, "5GB", "1 MiB"])
def test_what_fits_is_one_file(tmp_path, limit):
    path = convert.save(many(), tmp_path / "model.safetensors", max_shard_size=limit)
    assert names(tmp_path) == ["model.safetensors"]
    bitwise(read(path), many())


def test_an_earlier_save_to_the_same_path_leaves_nothing_behind(tmp_path):
    path = tmp_path / "model.safetensors"
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "model-00009-of-00009.safetensors").write_bytes(b"not listed: mine")
    mine = names(tmp_path)
    for limit in (None, 400, 800, None, 800, 400):
        convert.save(many(), path, max_shard_size=limit)
        bitwise(read(path), many())
        count = {None: 1, 400: 7, 800: 4}[limit]
        assert len(names(tmp_path)) == len(mine) + count
        assert set(mine) <= set(names(tmp_path))


# --- refusals and accidents ---------------------------------------------------------------------


@pytest.mark.parametrize("name", ["w", "w.npz", "w.json", "w.ckp"])
def test_an_unknown_ending_is_refused(model, tmp_path, name):
    with pytest.raises(ConvertError, match="should end in .safetensors"):
        convert.save(model, tmp_path / name)
    assert names(tmp_path) == []


@pytest.mark.parametrize("limit", [0, -1, "", "5 apples", "GB", "0MB", None])
def test_a_shard_size_that_is_none_is_refused(model, tmp_path, limit):
    options = {"max_shard_size": limit} if limit is not None else {"metadata": {"a": "b"}}
    with pytest.raises(ConvertError, match="max_shard_size"):
        convert.save(model, tmp_path / ("w.pt" if limit is None else "w.safetensors"), **options)
    assert names(tmp_path) == []


def test_dtypes_that_safetensors_lack_are_named_at_once(tmp_path):
    given = {"a": np.ones(2, np.complex128), "b": np.ones(2), "c": np.ones(2, ">f4")}
    with pytest.raises(DtypeError, match=r"a \(complex128\), c \(>f4\)"):
        convert.save(given, tmp_path / "w.safetensors")
    assert names(tmp_path) == []
    del given["c"]
    bitwise(read(convert.save(given, tmp_path / "w.pt")), given)


def failing(source, key):
    """A source one of whose arrays cannot be read."""

    def broken():
        raise OSError("disk gone")

    weights = dict(convert.read(source))
    weights[key] = convert.Weight(weights[key].shape, weights[key].dtype, broken)
    return convert.Source(weights, "a broken disk")


@pytest.mark.parametrize("limit", [None, 400])
@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_a_save_that_fails_leaves_the_earlier_file(tmp_path, suffix, limit):
    path = tmp_path / f"model{suffix}"
    options = {"max_shard_size": limit} if limit and suffix == ".safetensors" else {}
    convert.save(many(), path, **options)
    before = {n: (tmp_path / n).read_bytes() for n in names(tmp_path)}
    changed = {key: array + 1 for key, array in many().items()}
    with pytest.raises(OSError, match="disk gone"):
        convert.save(failing(changed, "w5"), path, **options)
    assert {n: (tmp_path / n).read_bytes() for n in names(tmp_path)} == before


def test_a_disk_that_refuses_leaves_the_earlier_file(tmp_path, monkeypatch):
    path = convert.save(many(), tmp_path / "model.safetensors")
    before = path.read_bytes()

    def full(*args):
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="no space"):
        convert.save(many(3), path)
    assert path.read_bytes() == before
    assert names(tmp_path) == ["model.safetensors"]


SAVE_FOREVER = """
import sys
import numpy as np
from fluxmod import convert
value = 0
while True:
    value += 1
    weights = {f"w{i}": np.full(200_000, value, np.float32) for i in range(4)}
    convert.save(weights, sys.argv[1], max_shard_size=10**6 if value % 3 else None)
    print(value, flush=True)
"""


def test_a_killed_save_never_leaves_a_mixed_checkpoint(tmp_path):
    """Killed at any moment: one save's weights, whole, or an error that says what is missing."""
    path = tmp_path / "model.safetensors"
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    for wait in (0.0, 0.003, 0.006, 0.009, 0.012):
        process = subprocess.Popen(
            [sys.executable, "-c", SAVE_FOREVER, str(path)],
            stdout=subprocess.PIPE,
            env=environment,
        )
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.readline()
        time.sleep(wait)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        try:
            values = {float(v) for array in read(path).values() for v in (array.min(), array.max())}
        except (ConvertError, FileNotFoundError):
            continue  # an index without a shard, never shards of two saves
        assert len(values) == 1


def test_a_file_has_the_permissions_of_any_new_file(model, tmp_path):
    (tmp_path / "plain").write_text("")
    for suffix in (".safetensors", ".pt"):
        path = convert.save(model, tmp_path / f"w{suffix}")
        assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode
        path.chmod(0o640)
        assert convert.save(model, path).stat().st_mode & 0o777 == 0o640


# --- describing ---------------------------------------------------------------------------------


def test_a_file_is_described(model, tmp_path):
    text = convert.describe(convert.save(model, tmp_path / "w.pt"))
    lines = text.splitlines()
    assert lines[0].split() == ["key", "shape", "dtype", "size"]
    assert lines[1].split() == ["first.weight", "(3,", "3)", "float32", "36", "B"]
    assert "num_batches_tracked  ()      int64    8 B" in text
    assert lines[-1] == (
        "9 arrays, 28 values, 116 B; stored once under several names: second.weight"
    )
    shards = convert.save(many(), tmp_path / "model.safetensors", max_shard_size=800)
    assert convert.describe(shards).endswith("6 arrays, 600 values, 2.4 KB")
    assert convert.describe(tmp_path / "model.safetensors") == convert.describe(shards)
