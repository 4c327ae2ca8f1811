"""Every row of the notes passes the whole certificate."""

import pytest

from fluxmod.models import CATALOG, entry
from fluxmod.parity.suite import certify, certify_all

MAY_SKIP = {"L3", "L4", "L5"}


@pytest.mark.parametrize("row", CATALOG, ids=lambda row: row.name)
def test_certificate(row, device):
    report = certify(row, device=device).require()
    levels = report.by_level()
    assert {"L0", "L1", "L2", "L4", "L5"} <= set(levels)
    for level, rows in levels.items():
        skipped = [r for r in rows if r.passed is None]
        assert not skipped or (level in MAY_SKIP and all(r.note for r in skipped))


def test_skips_are_what_they_should_be():
    """Only a row without parameters skips L4, only one without dropout skips L5."""
    relu = certify(entry("ReLU")).by_level()
    assert relu["L4"][0].note == "no parameter to train"
    assert relu["L5"][0].note == "torch drew no random mask"
    dropout = certify(entry("Dropout")).by_level()
    assert dropout["L5"][0].passed


@pytest.mark.parametrize("name", ["SimpleModel", "Model", "LayerNorm", "exercise6_TwoParts"])
def test_bfloat16_on_request(name):
    report = certify(entry(name), levels=("L0", "L6")).require()
    assert [row.what for row in report.by_level()["L6"]] == ["output"]


def test_other_seed():
    assert certify(entry("SimpleModel"), seed=5).passed


def test_unknown_model_is_refused_before_any_work():
    with pytest.raises(ValueError, match="SimpleCNN"):
        certify_all(["SimpleCN"])
