from __future__ import annotations

import gzip
import hashlib
import struct

import numpy as np
import pytest
import torch

from examples import _images


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def parts(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "train-images-idx3-ubyte": rng.integers(256, size=(7, 28, 28), dtype=np.uint8),
        "train-labels-idx1-ubyte": rng.integers(10, size=7, dtype=np.uint8),
        "t10k-images-idx3-ubyte": rng.integers(256, size=(3, 28, 28), dtype=np.uint8),
        "t10k-labels-idx1-ubyte": rng.integers(10, size=3, dtype=np.uint8),
    }


def write(folder, arrays, *, zipped=()):
    folder.mkdir(exist_ok=True)
    for name, array in arrays.items():
        if name in zipped:
            (folder / f"{name}.gz").write_bytes(gzip.compress(idx(array)))
        else:
            (folder / name).write_bytes(idx(array))


@pytest.fixture(scope="module")
def digits():
    return _images.load()


# ---- digits -----------------------------------------------------------------------------------


def test_digits_are_all_there_once(digits):
    assert digits.name == "digits"
    assert digits.train_images.shape == (1437, 28, 28)
    assert digits.test_images.shape == (360, 28, 28)
    assert digits.train_labels.shape == (1437,)
    assert digits.test_labels.shape == (360,)
    together = np.concatenate([digits.train_images, digits.test_images])
    assert len(np.unique(together.reshape(1797, -1), axis=0)) == 1797


def test_digits_are_float32_between_0_and_1(digits):
    for images in (digits.train_images, digits.test_images):
        assert images.dtype == np.float32
        assert images.min() == 0
        assert images.max() == 1
    assert digits.train_labels.dtype == np.int64
    assert len(digits.classes) == 10


def test_every_class_has_its_share_held_out(digits):
    held_out = np.bincount(digits.test_labels)
    share = (held_out + np.bincount(digits.train_labels)) * 360 / 1797
    assert (np.abs(held_out - share) < 1).all()


def test_the_split_depends_on_the_seed_alone(digits):
    again, other = _images.load(seed=0), _images.load(seed=1)
    np.testing.assert_array_equal(again.test_images, digits.test_images)
    np.testing.assert_array_equal(again.train_labels, digits.train_labels)
    assert not np.array_equal(other.test_images, digits.test_images)


def test_the_split_refuses_to_hold_out_everything():
    with pytest.raises(ValueError, match="held_out=4 must lie between 1 and 3"):
        _images.stratified_split(np.array([0, 0, 1, 1]), 4, seed=0)


@pytest.mark.parametrize(("old", "new"), [(8, 28), (8, 8), (5, 13), (1, 4), (9, 4)])
def test_resize_is_bilinear(old, new):
    images = np.random.default_rng(0).normal(size=(3, old, old))
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(images)[:, None], size=(new, new), mode="bilinear", align_corners=False
    )
    np.testing.assert_allclose(_images.resize(images, new), expected[:, 0], rtol=0, atol=1e-14)


# ---- Fashion-MNIST's files --------------------------------------------------------------------


@pytest.mark.parametrize("zipped", [(), tuple(parts()), ("t10k-labels-idx1-ubyte",)])
def test_a_folder_is_read_plain_or_zipped(tmp_path, zipped):
    arrays = parts()
    write(tmp_path, arrays, zipped=zipped)
    images = _images.load(tmp_path)
    assert images.name == "fashion-mnist"
    assert images.classes[9] == "Ankle boot"
    assert images.train_images.dtype == np.float32
    assert images.test_labels.dtype == np.int64
    expected = arrays["train-images-idx3-ubyte"] / 255
    np.testing.assert_allclose(images.train_images, expected, rtol=1e-7, atol=0)
    np.testing.assert_array_equal(images.train["label"], arrays["train-labels-idx1-ubyte"])
    np.testing.assert_array_equal(images.test["label"], arrays["t10k-labels-idx1-ubyte"])


def test_every_missing_file_is_named_at_once(tmp_path):
    write(tmp_path, {"t10k-labels-idx1-ubyte": parts()["t10k-labels-idx1-ubyte"]})
    with pytest.raises(_images.ImagesError) as caught:
        _images.load(tmp_path)
    message = str(caught.value)
    assert "3 of the 4" in message
    assert [name in message for name in parts()] == [True, True, True, False]


def test_a_folder_that_is_not_there_misses_all_four(tmp_path):
    with pytest.raises(_images.ImagesError, match="4 of the 4"):
        _images.load(tmp_path / "nowhere")


def test_damage_of_every_kind_is_listed_at_once(tmp_path):
    arrays = parts()
    write(tmp_path, {})
    whole = gzip.compress(idx(arrays["train-images-idx3-ubyte"]))
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(whole[:-40])
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(b"<html>not found</html>")
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(idx(arrays["t10k-images-idx3-ubyte"])[:-1])
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx(np.array([3, 10, 2], np.uint8)))
    with pytest.raises(_images.ImagesError) as caught:
        _images.load(tmp_path)
    message = str(caught.value)
    assert "train-images-idx3-ubyte: damaged gzip data" in message
    assert "train-labels-idx1-ubyte: not an idx file of unsigned bytes" in message
    assert "t10k-images-idx3-ubyte: expected 2368 bytes for shape (3, 28, 28), got 2367" in message
    assert "t10k-labels-idx1-ubyte: expected labels 0 to 9, got 10" in message


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        ("t10k-images-idx3-ubyte", idx(np.zeros((3, 8, 8), np.uint8)), r"got \(3, 8, 8\)"),
        ("t10k-images-idx3-ubyte", idx(np.zeros((0, 28, 28), np.uint8)), "holds no items"),
        ("t10k-labels-idx1-ubyte", idx(np.zeros(4, np.uint8)), "holds 4 labels for 3 images"),
        ("t10k-labels-idx1-ubyte", idx(np.zeros((3, 1), np.uint8)), r"got \(3, 1\)"),
        ("t10k-labels-idx1-ubyte", b"\x00\x00\x08\x01\x00", "cut off inside its header"),
        ("t10k-labels-idx1-ubyte", b"", "an empty file"),
        (
            "t10k-labels-idx1-ubyte.gz",
            gzip.compress(b"\x00\x00\x0d\x01", mtime=0),
            "starts? with 000008",
        ),
    ],
)
def test_a_file_that_does_not_fit_is_refused(tmp_path, name, content, fault):
    write(tmp_path, {n: a for n, a in parts().items() if n != name.removesuffix(".gz")})
    (tmp_path / name).write_bytes(content)
    with pytest.raises(_images.ImagesError, match=fault):
        _images.load(tmp_path)


# ---- fetching ---------------------------------------------------------------------------------


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A folder that serves the four files by URL, with their sums in place of the real ones."""
    folder = tmp_path / "server"
    write(folder, parts(), zipped=tuple(parts()))
    sums = {p.name: hashlib.md5(p.read_bytes()).hexdigest() for p in folder.iterdir()}
    monkeypatch.setattr(_images, "FASHION_MD5", sums)
    return folder


def test_fetched_files_load(tmp_path, server, monkeypatch):
    monkeypatch.setattr(
        _images.fetch_fashion_mnist, "__kwdefaults__", {"url": f"{server.as_uri()}/", "timeout": 5}
    )
    images = _images.load(tmp_path / "data", download=True)
    np.testing.assert_array_equal(images.train["label"], parts()["train-labels-idx1-ubyte"])
    assert sorted(p.name for p in (tmp_path / "data").iterdir()) == sorted(_images.FASHION_MD5)


def test_a_wrong_sum_leaves_no_file_and_the_others_arrive(tmp_path, server):
    (server / "t10k-images-idx3-ubyte.gz").write_bytes(b"something else")
    with pytest.raises(_images.ImagesError, match="1 of the 4") as caught:
        _images.fetch_fashion_mnist(tmp_path / "data", url=f"{server.as_uri()}/")
    assert caught.match("t10k-images-idx3-ubyte.gz: expected MD5")
    assert len(list((tmp_path / "data").iterdir())) == 3


def test_files_that_are_there_are_not_fetched_again(tmp_path, server):
    write(tmp_path / "data", parts(seed=9), zipped=("train-labels-idx1-ubyte",))
    _images.fetch_fashion_mnist(tmp_path / "data", url=(tmp_path / "nowhere").as_uri())
    loaded = _images.load(tmp_path / "data")
    np.testing.assert_array_equal(loaded.train_labels, parts(seed=9)["train-labels-idx1-ubyte"])


def test_without_a_network_the_error_says_what_to_do(tmp_path):
    with pytest.raises(_images.ImagesError, match="4 of the 4") as caught:
        _images.fetch_fashion_mnist(tmp_path, url="http://127.0.0.1:9/")  # nothing listens there
    assert caught.match("Without a network")
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_fetched_unless_asked(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(_images, "fetch_fashion_mnist", calls.append)
    with pytest.raises(_images.ImagesError):
        _images.load(tmp_path)
    assert calls == []


def test_download_needs_a_folder():
    with pytest.raises(_images.ImagesError, match="needs a folder"):
        _images.load(download=True)
