"""The images that the classifiers train on: Fashion-MNIST from its own files, or real digits.

Numpy only, so both backends read exactly the same numbers. Images are ``(N, 28, 28)``, without
a channel axis: each backend adds it where its layers want it.
"""

from __future__ import annotations

import gzip
import hashlib
import http.client
import math
import os
import urllib.request
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

SIZE = 28
HELD_OUT_DIGITS = 360

FILES = {
    "train_images": "train-images-idx3-ubyte",
    "train_labels": "train-labels-idx1-ubyte",
    "test_images": "t10k-images-idx3-ubyte",
    "test_labels": "t10k-labels-idx1-ubyte",
}

# The publisher's own repository, and the MD5 sums it publishes beside the files.
FASHION_URL = "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/"
FASHION_MD5 = {
    "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
}
FASHION_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


class ImagesError(ValueError):
    """The folder does not hold what was asked for; the message lists every fault at once."""


@dataclass(frozen=True, slots=True)
class Images:
    """A labelled training set and a held-out set of 28x28 grey images in [0, 1]."""

    name: str
    classes: tuple[str, ...]
    train_images: np.ndarray  # (N, 28, 28) float32
    train_labels: np.ndarray  # (N,) int64
    test_images: np.ndarray  # (M, 28, 28) float32
    test_labels: np.ndarray  # (M,) int64

    @property
    def train(self) -> dict[str, np.ndarray]:
        """The training arrays by name, as the loader takes them."""
        return {"image": self.train_images, "label": self.train_labels}

    @property
    def test(self) -> dict[str, np.ndarray]:
        """The held-out arrays by name, as the loader takes them."""
        return {"image": self.test_images, "label": self.test_labels}


def load(folder: str | Path | None = None, *, download: bool = False, seed: int = 0) -> Images:
    """Fashion-MNIST from ``folder`` when one is given, else scikit-learn's handwritten digits.

    Args:
        download: fetch whichever of the four files ``folder`` lacks, checked by their MD5 sums.
        seed: of the digits' split; Fashion-MNIST comes already split.

    Raises:
        ImagesError: the folder lacks files, or some are damaged; all of them are listed.
    """
    if folder is not None:
        if download:
            fetch_fashion_mnist(folder)
        return fashion_mnist(folder)
    if download:
        raise ImagesError(
            "load: download=True needs a folder to put the files in, got none. "
            "Name one with --data FOLDER, or leave download off to use the bundled digits."
        )
    return digits(seed=seed)


# ---- scikit-learn's digits --------------------------------------------------------------------


def digits(*, held_out: int = HELD_OUT_DIGITS, seed: int = 0) -> Images:
    """The 1797 handwritten digits that scikit-learn bundles, resized from 8x8 to 28x28.

    The split is stratified and depends on ``seed`` alone. Writers appear on both sides of it.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError(
            "the bundled digits need scikit-learn, which is not installed. "
            "Install it with `pip install 'fluxmod[data]'`, or give a Fashion-MNIST folder."
        ) from error
    raw = load_digits()
    images = resize(raw.images.astype(np.float32) / np.float32(16), SIZE)
    labels = raw.target.astype(np.int64)
    train, test = stratified_split(labels, held_out, seed=seed)
    return Images(
        name="digits",
        classes=tuple(str(digit) for digit in range(10)),
        train_images=images[train],
        train_labels=labels[train],
        test_images=images[test],
        test_labels=labels[test],
    )


def resize(images: np.ndarray, size: int) -> np.ndarray:
    """Bilinear resize of square images, (N, s, s) -> (N, size, size), pixel centres aligned.

    Element-wise arithmetic only, no matrix product: every machine gets the same bits.
    """
    old = images.shape[-1]
    centres = np.clip((np.arange(size) + 0.5) * old / size - 0.5, 0, old - 1)
    low = np.floor(centres).astype(np.int64)
    high = np.minimum(low + 1, old - 1)
    weight = (centres - low).astype(images.dtype)
    rows = images[:, low] * (1 - weight)[:, None] + images[:, high] * weight[:, None]
    return rows[:, :, low] * (1 - weight) + rows[:, :, high] * weight


def stratified_split(
    labels: np.ndarray, held_out: int, *, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Indices (train, held out), each sorted, every class in its share of the whole.

    Each class gives the whole part of its share; the rest go to the largest fractions.
    """
    if not 0 < held_out < len(labels):
        raise ValueError(
            f"stratified_split: held_out={held_out} must lie between 1 and {len(labels) - 1}."
        )
    classes, counts = np.unique(labels, return_counts=True)
    share = counts * held_out / len(labels)
    take = np.floor(share).astype(np.int64)
    leftover = np.argsort(take - share, kind="stable")[: held_out - take.sum()]
    take[leftover] += 1
    rng = np.random.default_rng(seed)
    test = np.concatenate(
        [
            rng.permutation(np.flatnonzero(labels == label))[:n]
            for label, n in zip(classes, take, strict=True)
        ]
    )
    test.sort()
    train = np.setdiff1d(np.arange(len(labels)), test)
    return train, test


# ---- Fashion-MNIST ----------------------------------------------------------------------------


def fashion_mnist(folder: str | Path) -> Images:
    """Fashion-MNIST from the four idx files in ``folder``, plain or gzipped.

    Raises:
        ImagesError: with one line for each file that is missing, damaged or does not fit.
    """
    folder = Path(folder)
    arrays: dict[str, np.ndarray] = {}
    faults: dict[str, str] = {}
    for part, name in FILES.items():
        try:
            arrays[part] = read_idx(_find(folder, name))
        except (OSError, ValueError) as error:
            faults[name] = str(error)
    for part, array in arrays.items():
        if fault := _misfit(part, array, arrays):
            faults[FILES[part]] = fault
    if faults:
        raise ImagesError(
            f"{folder}: {len(faults)} of the 4 Fashion-MNIST files cannot be used.\n"
            + "".join(f"  {name}: {fault}\n" for name, fault in faults.items())
            + "Put the 4 files there (plain or .gz), pass --download to fetch the missing ones, "
            "or leave --data out to train on the bundled digits."
        )
    return Images(
        name="fashion-mnist",
        classes=FASHION_CLASSES,
        train_images=_unit(arrays["train_images"]),
        train_labels=arrays["train_labels"].astype(np.int64),
        test_images=_unit(arrays["test_images"]),
        test_labels=arrays["test_labels"].astype(np.int64),
    )


def read_idx(path: Path) -> np.ndarray:
    """One idx file of unsigned bytes, gzipped or not, as a uint8 array.

    Raises:
        ValueError: the file is not a whole idx file of unsigned bytes.
    """
    data = path.read_bytes()
    if path.suffix == ".gz":
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(f"damaged gzip data ({error})") from error
    if len(data) < 4 or data[:3] != b"\x00\x00\x08":
        raise ValueError(
            f"not an idx file of unsigned bytes: expected it to start with 000008, "
            f"got {data[:3].hex() or 'an empty file'}"
        )
    rank = data[3]
    header = 4 + 4 * rank
    if len(data) < header:
        raise ValueError(f"cut off inside its header: expected {header} bytes, got {len(data)}")
    shape = tuple(int(n) for n in np.frombuffer(data, ">u4", count=rank, offset=4))
    expected = header + math.prod(shape)
    if len(data) != expected:
        raise ValueError(f"expected {expected} bytes for shape {shape}, got {len(data)}")
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)


def _find(folder: Path, name: str) -> Path:
    for candidate in (folder / name, folder / f"{name}.gz"):
        if candidate.is_file():
            return candidate
    raise FileNotFoundError(f"missing, and so is {name}.gz")


def _misfit(part: str, array: np.ndarray, arrays: Mapping[str, np.ndarray]) -> str | None:
    """What is wrong with a file that reads well by itself, or None."""
    if array.shape[0:1] == (0,):
        return "holds no items"
    if part.endswith("images"):
        good = array.ndim == 3 and array.shape[1:] == (SIZE, SIZE)
        return None if good else f"expected shape (N, {SIZE}, {SIZE}), got {array.shape}"
    if array.ndim != 1:
        return f"expected shape (N,), got {array.shape}"
    if array.max() > 9:
        return f"expected labels 0 to 9, got {array.max()}"
    images = arrays.get(part.replace("labels", "images"))
    if images is not None and images.ndim and len(images) != len(array):
        return f"holds {len(array)} labels for {len(images)} images"
    return None


def _unit(pixels: np.ndarray) -> np.ndarray:
    return pixels.astype(np.float32) / np.float32(255)


def fetch_fashion_mnist(
    folder: str | Path, *, url: str = FASHION_URL, timeout: float = 30.0
) -> None:
    """Download whichever of the four files ``folder`` lacks; a file that is there stays as it is.

    A file appears under its name only when it is whole and its MD5 sum is the published one.

    Raises:
        ImagesError: with one line for each file that could not be fetched.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    faults: dict[str, str] = {}
    for name, md5 in FASHION_MD5.items():
        if (folder / name).is_file() or (folder / name).with_suffix("").is_file():
            continue
        try:
            _fetch(url + name, folder / name, md5, timeout)
        except (OSError, ValueError, http.client.HTTPException) as error:
            faults[name] = str(getattr(error, "reason", None) or error)
    if faults:
        raise ImagesError(
            f"{len(faults)} of the 4 Fashion-MNIST files could not be fetched from {url}\n"
            + "".join(f"  {name}: {fault}\n" for name, fault in faults.items())
            + "Without a network, leave --download out: copy the files into the folder by hand, "
            "or leave --data out too and train on the bundled digits."
        )


def _fetch(url: str, path: Path, md5: str, timeout: float) -> None:
    with urllib.request.urlopen(url, timeout=timeout) as response:
        data = response.read()
    got = hashlib.md5(data, usedforsecurity=False).hexdigest()
    if got != md5:
        raise ValueError(f"expected MD5 {md5}, got {got} ({len(data)} bytes)")
    part = path.with_name(path.name + ".part")
    part.write_bytes(data)
    os.replace(part, path)
