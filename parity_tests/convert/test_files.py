"""Weight files of every kind, whole and broken; nothing is half-read."""

from __future__ import annotations

import json
import os
import pickle
import struct
import subprocess
import sys
from collections import OrderedDict

import numpy as np
import pytest
import safetensors.torch
import torch
from flax import nnx
from torch import nn as tnn

from fluxmod import convert, nn
from fluxmod._errors import FileFormatError, MissingExtraError, UnmatchedKeysError
from parity_tests.compare import bitwise


class Net(nn.Module):
    def __init__(self, *, rngs):
        self.conv = nn.Conv2d(2, 3, (3, 2), rngs=rngs)
        self.norm = nn.BatchNorm2d(3)
        self.fc = nn.Linear(3, 4, rngs=rngs)


TorchNet = OrderedDict(
    conv=lambda: tnn.Conv2d(2, 3, (3, 2)),
    norm=lambda: tnn.BatchNorm2d(3),
    fc=lambda: tnn.Linear(3, 4),
)


@pytest.fixture
def theirs():
    torch.manual_seed(0)
    return tnn.Sequential(OrderedDict((name, make()) for name, make in TorchNet.items()))


@pytest.fixture
def ours():
    return Net(rngs=nnx.Rngs(0))


def arrays(path, **options):
    return {key: weight.load() for key, weight in convert.open_weights(path, **options).items()}


def sorted_(mapping):
    return {key: mapping[key] for key in sorted(mapping)}


def refused(path, ours, error=FileFormatError):
    """The text of the error; neither opening nor loading changes the model."""
    before = convert.to_torch(ours)
    with pytest.raises(error) as opened:
        convert.open_weights(path)
    with pytest.raises(error) as loaded:
        convert.to_flax(path, ours)
    bitwise(convert.to_torch(ours), before)
    assert str(opened.value) == str(loaded.value)
    return str(opened.value)


# --- files that torch and safetensors write -----------------------------------------------------


def as_safetensors(state, path):
    safetensors.torch.save_file(state, path)


def as_legacy(state, path):
    torch.save(state, path, _use_new_zipfile_serialization=False)


@pytest.mark.parametrize("write", [as_safetensors, torch.save, as_legacy], ids=lambda f: f.__name__)
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
def test_files_of_the_other_side_are_read_bit_for_bit(theirs, tmp_path, write, dtype):
    theirs.to(getattr(torch, dtype))
    path = tmp_path / ("w.safetensors" if write is as_safetensors else "w.pt")
    write(theirs.state_dict(), path)
    bitwise(sorted_(arrays(path)), sorted_(theirs.state_dict()))


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".ckpt", ".safetensors"])
def test_a_model_is_loaded_from_every_ending(theirs, ours, tmp_path, suffix):
    path = tmp_path / f"w{suffix}"
    (as_safetensors if suffix == ".safetensors" else torch.save)(theirs.state_dict(), path)
    for source in (path, str(path)):
        plan = convert.to_flax(source, ours)
        assert plan.origin == str(path)
        bitwise(convert.to_torch(ours), theirs.state_dict())


TYPES = [
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32,
    torch.int16, torch.int8, torch.uint8, torch.uint16, torch.uint32, torch.uint64, torch.bool,
    torch.complex64, torch.float8_e4m3fn, torch.float8_e5m2,
]  # fmt: skip


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_every_dtype_goes_through_both_kinds_of_file(tmp_path, suffix, dtype):
    bits = np.random.default_rng(0).integers(0, 2, 24 * dtype.itemsize, np.uint8)
    tensor = torch.from_numpy(bits).view(dtype).reshape(4, 6)
    name = str(dtype).removeprefix("torch.")
    foreign, own = tmp_path / f"foreign{suffix}", tmp_path / f"own{suffix}"
    state = {"x": tensor, "scalar": tensor[0, 0].clone(), "none": tensor[:0].clone()}
    (as_safetensors if suffix == ".safetensors" else torch.save)(state, foreign)
    read = arrays(foreign)
    assert {str(a.dtype) for a in read.values()} == {name}
    assert (read["scalar"].shape, read["none"].shape) == ((), (0, 6))
    assert read["x"].tobytes() == bits.tobytes()
    convert.save(read, own)
    load = safetensors.torch.load_file if suffix == ".safetensors" else torch.load
    back = load(own)
    assert {key: t.dtype for key, t in back.items()} == dict.fromkeys(state, dtype)
    assert {key: t.shape for key, t in back.items()} == {k: t.shape for k, t in state.items()}
    assert bytes(back["x"].contiguous().view(torch.uint8).numpy()) == bits.tobytes()


def test_parameters_views_and_ties_of_a_torch_file(tmp_path):
    base = torch.arange(12.0).reshape(3, 4)
    path = tmp_path / "w.pt"
    torch.save({"a": tnn.Parameter(base), "b": base.t(), "c": base[1:], "d": base}, path)
    source = convert.open_weights(path)
    assert source.tied() == [["a", "d"]]
    bitwise(arrays(path), {"a": base, "b": base.t(), "c": base[1:], "d": base})


def test_values_are_read_when_asked_for(theirs, tmp_path):
    path = tmp_path / "w.safetensors"
    as_safetensors(theirs.state_dict(), path)
    source = convert.open_weights(path)
    with open(path, "r+b") as file:
        file.truncate(path.stat().st_size - 4)
    assert source["conv.weight"].shape == (3, 2, 3, 2)
    with pytest.raises(FileFormatError, match="became shorter"):
        [weight.load() for weight in source.values()]


# --- shards and folders -------------------------------------------------------------------------


def write_shards(state, folder, suffix=".safetensors"):
    """Two shards and their index, as the usual hubs have them."""
    name = "model" if suffix == ".safetensors" else "pytorch_model"
    keys = list(state)
    files = {f"{name}-0000{i + 1}-of-00002{suffix}": keys[i::2] for i in range(2)}
    for file, part in files.items():
        write = as_safetensors if suffix == ".safetensors" else torch.save
        write({key: state[key] for key in part}, folder / file)
    index = folder / f"{name}{suffix}.index.json"
    place = {key: file for file, part in files.items() for key in part}
    content = {"metadata": {"total_size": 1}, "weight_map": place}
    index.write_text(json.dumps(content))
    return index


@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
def test_shards_are_read_from_index_folder_and_common_name(theirs, ours, tmp_path, suffix):
    state = theirs.state_dict()
    index = write_shards(state, tmp_path, suffix)
    for source in (index, tmp_path, tmp_path / index.name.removesuffix(".index.json")):
        bitwise(arrays(source), {k: state[k] for k in json.loads(index.read_text())["weight_map"]})
        convert.to_flax(source, ours)
        bitwise(convert.to_torch(ours), state)


def test_all_missing_shards_are_named_at_once(theirs, ours, tmp_path):
    index = write_shards(theirs.state_dict(), tmp_path)
    for file in tmp_path.glob("*.safetensors"):
        file.unlink()
    message = refused(index, ours)
    assert "model-00001-of-00002.safetensors, model-00002-of-00002.safetensors" in message


def test_an_index_that_does_not_fit_its_shards_says_where(theirs, ours, tmp_path):
    index = write_shards(theirs.state_dict(), tmp_path)
    content = json.loads(index.read_text())
    names = content["weight_map"]
    names["gone"] = names["fc.weight"]
    del names["fc.bias"]
    index.write_text(json.dumps(content))
    message = refused(index, ours)
    assert "gone is not in model-0000" in message
    assert "fc.bias of model-0000" in message


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"weight_map": 3}',
        '{"weight_map": {"a": 3}}',
        '{"weight_map": {"a": "../w.safetensors"}}',
        '{"weight_map": {"a": "/etc/w.safetensors"}}',
        '{"weight_map": {"a": "notes.txt"}}',
    ],
)
def test_a_broken_index_is_refused(ours, tmp_path, content):
    path = tmp_path / "model.safetensors.index.json"
    path.write_text(content)
    assert str(path) in refused(path, ours)


def test_a_folder_prefers_safetensors(theirs, tmp_path):
    torch.save({"old": torch.ones(1)}, tmp_path / "pytorch_model.bin")
    assert list(arrays(tmp_path)) == ["old"]
    as_safetensors(theirs.state_dict(), tmp_path / "anything.safetensors")
    bitwise(sorted_(arrays(tmp_path)), sorted_(theirs.state_dict()))
    as_safetensors({"usual": torch.ones(1)}, tmp_path / "model.safetensors")
    assert list(arrays(tmp_path)) == ["usual"]


def test_a_folder_of_torch_files_has_a_usual_name(tmp_path):
    torch.save({"args": 3}, tmp_path / "training_args.bin")
    torch.save({"x": torch.ones(1)}, tmp_path / "pytorch_model.bin")
    assert list(arrays(tmp_path)) == ["x"]


def test_a_folder_that_does_not_say_which_lists_what_it_holds(ours, tmp_path):
    assert "nothing" in refused(tmp_path, ours)
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "config.json").write_text("{}")
    assert "config.json, notes.txt" in refused(tmp_path, ours)
    for name in ("a", "b"):
        as_safetensors({name: torch.ones(1)}, tmp_path / f"{name}.safetensors")
    assert "a.safetensors, b.safetensors" in refused(tmp_path, ours)


# --- files that are no weights ------------------------------------------------------------------


def test_a_missing_file_says_what_is_there(ours, tmp_path):
    as_safetensors({"x": torch.ones(1)}, tmp_path / "model.safetensors")
    message = refused(tmp_path / "modell.safetensors", ours, FileNotFoundError)
    assert "Beside it are model.safetensors" in message
    assert "Neither does the folder" in refused(tmp_path / "no" / "w.pt", ours, FileNotFoundError)


@pytest.mark.parametrize("name", ["w.npz", "w.txt", "w", "w.h5"])
def test_an_unknown_kind_lists_the_known_ones(ours, tmp_path, name):
    (tmp_path / name).write_bytes(b"something")
    assert ".safetensors" in refused(tmp_path / name, ours)


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.parametrize("keep", [0, 1, 7, 8, 60, 0.3, 0.9, -1])
def test_a_truncated_file_is_refused(theirs, ours, tmp_path, suffix, keep):
    path = tmp_path / f"w{suffix}"
    (as_safetensors if suffix == ".safetensors" else torch.save)(theirs.state_dict(), path)
    data = path.read_bytes()
    path.write_bytes(data[: keep if isinstance(keep, int) else int(len(data) * keep)])
    message = refused(path, ours)
    assert str(path) in message
    assert "damaged" in message or "empty" in message


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".bin"])
@pytest.mark.parametrize(
    "data",
    [b"<html>gone</html>" * 9, bytes(200), b"\x80\x02}q\x00", b"\x80\x05\x95K", b"PK\x03\x04" * 9],
    ids=["html", "zeros", "pickle-cut", "frame-cut", "zip-cut"],
)
def test_a_damaged_file_is_refused(ours, tmp_path, suffix, data):
    path = tmp_path / f"w{suffix}"
    path.write_bytes(data)
    assert str(path) in refused(path, ours)


@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
def test_a_git_lfs_pointer_is_recognised(ours, tmp_path, suffix):
    path = tmp_path / f"w{suffix}"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n")
    assert "git lfs pull" in refused(path, ours)


def header(entries, data=b""):
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text + data


@pytest.mark.parametrize(
    "content",
    [
        header({"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}, bytes(4)),
        header({"x": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}, bytes(8)),
        header({"x": {"dtype": "F99", "shape": [1], "data_offsets": [0, 4]}}, bytes(4)),
        header({"x": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}, bytes(4)),
        header({"x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, bytes(5)),
        header({"x": 3}),
        header([]),
        struct.pack("<Q", 2**62) + b"{}",
    ],
    ids=["size", "gap", "dtype", "negative", "rest", "entry", "list", "huge"],
)
def test_a_safetensors_header_that_lies_is_refused(ours, tmp_path, content):
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    assert str(path) in refused(path, ours)


def test_a_dtype_that_cannot_be_held_is_named(ours, tmp_path):
    path = tmp_path / "w.safetensors"
    entry = {"dtype": "F4", "shape": [4], "data_offsets": [0, 2]}
    path.write_bytes(header({"x": entry}, bytes(2)))
    message = refused(path, ours)
    assert "F4" in message or "dtype" in message


class Bomb:
    """Unpickling it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("kind", ["zip", "legacy", "plain"])
def test_code_in_a_pickle_is_never_run(ours, tmp_path, kind):
    path, trace = tmp_path / "w.pt", tmp_path / "ran"
    content = {"fc.weight": torch.ones(1), "bomb": Bomb(trace)}
    if kind == "plain":
        path.write_bytes(pickle.dumps({"bomb": Bomb(trace)}))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=kind == "zip")
    message = refused(path, ours)
    assert not trace.exists()
    assert str(path) in message
    if kind != "plain":
        assert "open" in message
        assert "could run code" in message


def test_a_pickled_module_names_its_class(theirs, ours, tmp_path):
    path = tmp_path / "w.pt"
    torch.save(theirs, path)
    message = refused(path, ours)
    assert "torch.nn.modules" in message
    assert "state_dict()" in message


# torch deprecates TorchScript, whose files still exist
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_torchscript_archive_is_recognised(ours, tmp_path):
    path = tmp_path / "w.pt"
    torch.jit.save(torch.jit.trace(tnn.Linear(3, 4), torch.ones(1, 3)), str(path))
    assert "TorchScript" in refused(path, ours)


def test_a_checkpoint_with_more_than_weights_names_the_part_that_is_one(theirs, ours, tmp_path):
    path = tmp_path / "w.ckpt"
    state = theirs.state_dict()
    content = {
        "epoch": 3,
        "state_dict": state,
        "ema": {"model": state, "decay": 0.9},
        "optimizer": {"state": {0: {"step": torch.ones(())}}, "param_groups": [{"lr": 0.1}]},
    }
    torch.save(content, path)
    message = refused(path, ours)
    assert "'epoch': int" in message
    assert "'state_dict' (9 arrays), 'ema.model' (9 arrays)" in message
    assert "entry='state_dict'" in message
    for entry in ("state_dict", "ema.model"):
        bitwise(arrays(path, entry=entry), state)
    with pytest.raises(FileFormatError, match="entry='model' is not one of its parts"):
        convert.open_weights(path, entry="model")


@pytest.mark.parametrize(
    "content", [3, [torch.ones(1)], torch.ones(2), {"a": 1.0}, {1: torch.ones(1)}]
)
def test_a_torch_file_without_a_state_dict_is_refused(ours, tmp_path, content):
    path = tmp_path / "w.pt"
    torch.save(content, path)
    assert "does not hold a state_dict" in refused(path, ours)


def test_an_entry_is_for_torch_files_alone(theirs, tmp_path):
    path = tmp_path / "w.safetensors"
    as_safetensors(theirs.state_dict(), path)
    with pytest.raises(FileFormatError, match="part of a torch file"):
        convert.open_weights(path, entry="model")


def test_keys_that_do_not_fit_leave_the_model_alone(theirs, ours, tmp_path):
    path = tmp_path / "w.safetensors"
    state = theirs.state_dict()
    state["extra"] = torch.ones(1)
    as_safetensors(state, path)
    before = convert.to_torch(ours)
    with pytest.raises(UnmatchedKeysError, match="unexpected  extra"):
        convert.to_flax(path, ours)
    bitwise(convert.to_torch(ours), before)


# --- without torch ------------------------------------------------------------------------------

READ_WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None
from fluxmod import convert
from fluxmod._errors import MissingExtraError
print(sorted(convert.open_weights(sys.argv[1])))
try:
    convert.open_weights(sys.argv[2])
except MissingExtraError as error:
    print(error)
"""


def test_safetensors_need_no_torch_and_the_others_say_that_they_do(theirs, tmp_path):
    paths = [tmp_path / "w.safetensors", tmp_path / "w.pt"]
    as_safetensors({"x": torch.ones(1)}, paths[0])
    torch.save({"x": torch.ones(1)}, paths[1])
    done = subprocess.run(
        [sys.executable, "-c", READ_WITHOUT_TORCH, *map(str, paths)],
        capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": os.getcwd()},
    )  # fmt: skip
    names, error = done.stdout.splitlines()
    assert names == "['x']"
    assert "pip install 'fluxmod[torch]'" in error
    assert str(paths[1]) in error
    assert issubclass(MissingExtraError, ImportError)
