"""grouped_mm in its four forms; torch takes float32 in sizes of 16 bytes, float64 is ours alone."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from jax.test_util import check_grads

from fluxmod.nn import functional as F

FORMS = {
    "rows": ((8, 16), (3, 16, 8), (2, 2, 8)),
    "rows-left-over": ((8, 16), (3, 16, 8), (2, 5, 7)),
    "columns": ((3, 8, 16), (16, 8), (2, 5, 8)),
    "inner": ((8, 16), (16, 8), (3, 8, 16)),
    "inner-left-over": ((8, 16), (16, 8), (3, 3, 12)),
    "batch": ((3, 8, 16), (3, 16, 8), None),
}


def operands(form, dtype=np.float32):
    rng = np.random.default_rng(0)
    a, b, offs = FORMS[form]
    ends = None if offs is None else np.array(offs, np.int32)
    return rng.standard_normal(a).astype(dtype), rng.standard_normal(b).astype(dtype), ends


@pytest.mark.skipif(not hasattr(torch.nn.functional, "grouped_mm"), reason="new in torch 2.10")
@pytest.mark.parametrize("form", [form for form in FORMS if "left-over" not in form])
def test_equal_in_float32_with_gradients(form):
    a, b, ends = operands(form)
    x, y = (torch.from_numpy(v.copy()).requires_grad_() for v in (a, b))
    offs = None if ends is None else torch.from_numpy(ends)
    want = torch.nn.functional.grouped_mm(x, y, offs=offs)
    weight = np.random.default_rng(1).standard_normal(tuple(want.shape)).astype(np.float32)
    (want * torch.from_numpy(weight)).sum().backward()

    def total(a, b):
        out = F.grouped_mm(a, b, offs=None if ends is None else jnp.asarray(ends))
        return jnp.vdot(out, weight), out

    grads, got = jax.jit(jax.grad(total, (0, 1), has_aux=True))(a, b)
    for ours, theirs in ((got, want.detach()), (grads[0], x.grad), (grads[1], y.grad)):
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_exact_in_float64(form, x64):
    """Also where offsets leave something over, which torch leaves as memory was."""
    a, b, ends = operands(form, np.float64)
    if ends is None:
        want = a @ b
    else:
        pieces = list(zip((0, *ends[:-1]), ends, strict=True))
        if a.ndim == 3:
            want = np.concatenate([a[g] @ b[:, i:j] for g, (i, j) in enumerate(pieces)], 1)
        elif b.ndim == 3:
            want = np.zeros((8, 8))
            for g, (i, j) in enumerate(pieces):
                want[i:j] = a[i:j] @ b[g]
        else:
            want = np.stack([a[:, i:j] @ b[i:j] for i, j in pieces])

    def ours(a, b):
        return F.grouped_mm(a, b, offs=None if ends is None else jnp.asarray(ends))

    got = ours(jnp.asarray(a), jnp.asarray(b))
    assert got.dtype == jnp.float64
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)
    check_grads(ours, (jnp.asarray(a), jnp.asarray(b)), 1, modes=("rev",), rtol=1e-6)


def test_half_precision_may_come_out_wider():
    a, b, ends = (jnp.asarray(v) for v in operands("rows"))
    low = a.astype(jnp.bfloat16), b.astype(jnp.bfloat16)
    assert F.grouped_mm(*low, offs=ends).dtype == jnp.bfloat16
    wide = F.grouped_mm(*low, offs=ends, out_dtype=jnp.float32)
    exact = F.grouped_mm(*(x.astype(jnp.float32) for x in low), offs=ends)
    np.testing.assert_allclose(wide, exact, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"mat_a": jnp.ones((8, 12))}, ValueError),
        ({"mat_a": jnp.ones(16)}, ValueError),
        ({"mat_a": jnp.ones((3, 8, 16))}, ValueError),
        ({"mat_a": jnp.ones((8, 16), jnp.bfloat16)}, TypeError),
        ({"mat_a": jnp.ones((8, 16), int), "mat_b": jnp.ones((3, 16, 8), int)}, TypeError),
        ({"offs": None}, ValueError),
        ({"offs": jnp.array([2, 8])}, ValueError),
        ({"offs": jnp.array([2, 5, 9])}, ValueError),
        ({"offs": jnp.array([5, 2, 8])}, ValueError),
        ({"offs": jnp.array([2.0, 5.0, 8.0])}, TypeError),
        ({"bias": jnp.ones(8)}, ValueError),
    ],
)
def test_refused(change, error):
    a, b, ends = (jnp.asarray(v) for v in operands("rows"))
    with pytest.raises(error, match="grouped_mm"):
        F.grouped_mm(**{"mat_a": a, "mat_b": b, "offs": ends, **change})
