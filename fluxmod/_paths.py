"""Dotted paths, as torch writes them.

A path names a module or a leaf from the root: ``features.0.weight``. The same text names the same
place in both frameworks up to the leaf's own name.
"""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

__all__ = ["is_within", "join", "matches", "nearest"]


def join(*parts: str) -> str:
    """Join path parts with dots; empty parts vanish.

    >>> join("", "features", "0", "weight")
    'features.0.weight'
    """
    return ".".join(part for part in parts if part)


def is_within(path: str, prefix: str) -> bool:
    """Whether ``path`` is ``prefix`` itself or lies below it.

    >>> is_within("encoder.conv1.weight", "encoder"), is_within("encoder2.weight", "encoder")
    (True, False)
    """
    return not prefix or path == prefix or path.startswith(prefix + ".")


def matches(path: str, patterns: Iterable[str]) -> bool:
    """Whether ``path`` lies within, or matches by shell wildcard, one of ``patterns``.

    >>> matches("bn.num_batches_tracked", ["*.num_batches_tracked"])
    True
    """
    return any(is_within(path, p) or fnmatchcase(path, p) for p in patterns)


def nearest(name: str, candidates: Iterable[str]) -> list[str]:
    """Return up to three candidates that look most like ``name``, for error messages.

    >>> nearest("layer.wieght", ["layer.weight", "other.bias"])
    ['layer.weight']
    """
    from difflib import get_close_matches

    return get_close_matches(name, list(candidates), n=3, cutoff=0.6)
