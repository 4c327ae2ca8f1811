from __future__ import annotations

import jax.numpy as jnp
import pytest
from flax import nnx
from torch import nn as tnn

from fluxmod import nn
from fluxmod._errors import LayoutError
from parity_tests.nn.cases import Case, both_raise, case_and_check, run

X1, X2, X3 = (2, 4, 11), (2, 4, 9, 7), (2, 4, 5, 7, 6)


def conv1d(id, *args, x=X1, **kwargs):
    return Case(f"1d-{id}", tnn.Conv1d, nn.Conv1d, args, kwargs, x=x)


def conv2d(id, *args, x=X2, **kwargs):
    return Case(f"2d-{id}", tnn.Conv2d, nn.Conv2d, args, kwargs, x=x)


def conv3d(id, *args, x=X3, **kwargs):
    return Case(f"3d-{id}", tnn.Conv3d, nn.Conv3d, args, kwargs, x=x)


CASES = [
    conv1d("plain", 4, 6, 3),
    conv1d("stride-pad", 4, 6, 3, stride=2, padding=1),
    conv1d("even-kernel", 4, 6, 4, stride=3, padding=2),
    conv1d("same-even-dilated", 4, 6, 4, padding="same", dilation=3),
    conv1d("valid", 4, 6, (5,), padding="valid", bias=False),
    conv1d("groups", 4, 6, 3, groups=2, dilation=2),
    conv1d("depthwise", 4, 8, 3, groups=4, padding=1),
    conv1d("reflect", 4, 6, 3, padding=4, padding_mode="reflect"),
    conv1d("replicate", 4, 6, 3, padding=20, padding_mode="replicate"),
    conv1d("circular", 4, 6, 3, padding=11, padding_mode="circular", stride=2),
    conv1d("unbatched", 4, 6, 3, x=(4, 11)),
    conv1d("unbatched-reflect", 4, 6, 3, x=(4, 11), padding=2, padding_mode="reflect"),
    conv2d("plain", 4, 6, 3),
    conv2d("bias-off", 4, 6, 3, bias=False),
    conv2d("1x1", 4, 6, 1),
    conv2d("1x1-stride", 4, 6, 1, stride=2),
    conv2d("kernel-covers-input", 4, 6, (9, 7)),
    conv2d("patches", 4, 6, (3, 2), stride=(3, 2)),
    conv2d("stride-pad-odd", 4, 6, 3, stride=2, padding=1),
    conv2d("stride-pad-even", 4, 6, 3, stride=2, padding=1, x=(2, 4, 8, 10)),
    conv2d("stem-7x7", 3, 6, 7, stride=2, padding=3, x=(2, 3, 15, 14)),
    conv2d("pairs", 4, 6, (3, 2), stride=(1, 2), padding=(0, 2), dilation=(2, 1)),
    conv2d("even-kernel", 4, 6, (4, 2), padding=(1, 1)),
    conv2d("same", 4, 6, (3, 5), padding="same"),
    conv2d("same-even", 4, 6, (4, 2), padding="same"),
    conv2d("same-dilated", 4, 6, (4, 3), padding="same", dilation=(1, 3)),
    conv2d("valid", 4, 6, 3, padding="valid", stride=2),
    conv2d("groups", 4, 6, 3, groups=2, padding=1),
    conv2d("groups-square", 4, 4, 4, groups=2, padding=1),
    conv2d("depthwise", 4, 4, 3, groups=4, padding=1),
    conv2d("depthwise-multiplier", 4, 12, (3, 1), groups=4, stride=2),
    conv2d("square-kernel-shape", 3, 3, 3, x=(2, 3, 7, 6)),
    conv2d("unbatched", 4, 6, 3, stride=2, padding=1, x=(4, 9, 7)),
    conv2d("empty-batch", 4, 6, 3, x=(0, 4, 9, 7)),
    conv2d("offset-one-pixel", 4, 6, 3, x=(1, 4, 3, 3)),
    conv2d("reflect", 4, 6, 3, padding=(2, 1), padding_mode="reflect"),
    conv2d("replicate", 4, 6, 3, padding=(2, 9), padding_mode="replicate", dilation=2),
    conv2d("circular", 4, 6, 3, padding=(9, 1), padding_mode="circular"),
    conv2d("reflect-same-even", 4, 6, (4, 3), padding="same", padding_mode="reflect"),
    conv2d("circular-same-even", 4, 6, (4, 2), padding="same", padding_mode="circular"),
    conv2d("replicate-groups-stride", 4, 6, 3, stride=2, padding=1, groups=2,
           padding_mode="replicate"),
    conv2d("circular-unbatched", 4, 6, 3, padding=1, padding_mode="circular", x=(4, 9, 7)),
    conv3d("plain", 4, 6, (1, 2, 3)),
    conv3d("stride-pad", 4, 6, 3, stride=(1, 2, 2), padding=(0, 1, 2)),
    conv3d("same-dilated", 4, 6, (2, 3, 4), padding="same", dilation=(2, 1, 1)),
    conv3d("groups", 4, 8, 2, groups=4),
    conv3d("replicate", 4, 6, 2, padding=(1, 2, 3), padding_mode="replicate"),
    conv3d("reflect", 4, 6, 2, padding=(1, 2, 3), padding_mode="reflect"),
    conv3d("circular", 4, 6, 2, padding=(1, 2, 3), padding_mode="circular"),
    conv3d("unbatched", 4, 6, 2, x=(4, 5, 7, 6)),
]  # fmt: skip

REFUSED = [
    conv2d("in-not-divisible", 5, 6, 3, groups=2),
    conv2d("out-not-divisible", 4, 5, 3, groups=2),
    conv2d("no-groups", 4, 6, 3, groups=0),
    conv2d("same-with-stride", 4, 6, 3, padding="same", stride=2),
    conv2d("unknown-padding", 4, 6, 3, padding="full"),
    conv2d("unknown-padding-mode", 4, 6, 3, padding_mode="mirror"),
    conv2d("kernel-too-large", 4, 6, (10, 3)),
    conv2d("reflect-too-far", 4, 6, 3, padding=(9, 1), padding_mode="reflect"),
    conv2d("circular-too-far", 4, 6, 3, padding=(10, 1), padding_mode="circular"),
    conv2d("wrong-channels", 3, 6, 3),
    conv2d("rank-5", 4, 6, 3, x=(1, 2, 4, 9, 7)),
    conv2d("rank-2", 4, 6, 3, x=(4, 9)),
    conv2d("stride-0", 4, 6, 3, stride=(1, 0)),
    conv2d("dilation-0", 4, 6, 3, dilation=0),
    conv2d("negative-padding", 4, 6, 3, padding=-1),
    conv1d("rank-4", 4, 6, 3, x=(2, 4, 9, 7)),
]


# torch, once per process: it says that it copies the input for an even kernel
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
@pytest.mark.parametrize(("case", "check"), case_and_check(CASES), ids=str)
def test_layer(case, check):
    run(case, check)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
@pytest.mark.parametrize("case", REFUSED, ids=str)
def test_refused_as_in_torch(case):
    both_raise(case, ValueError)


@pytest.mark.parametrize("field", ["kernel_size", "stride", "padding", "dilation"])
def test_a_sequence_of_the_wrong_length_names_the_argument(field):
    kwargs = {"kernel_size": 3, field: (1, 2, 3)}
    with pytest.raises(ValueError, match=field):
        nn.Conv2d(4, 6, **kwargs, rngs=nnx.Rngs(0))


def test_both_divisibility_problems_are_reported_at_once():
    with pytest.raises(ValueError, match=r"in_channels=5 .*out_channels=7 "):
        nn.Conv2d(5, 7, 3, groups=2, rngs=nnx.Rngs(0))


def test_a_channels_first_image_names_the_transpose():
    conv = nn.Conv2d(3, 8, 3, rngs=nnx.Rngs(0))
    with pytest.raises(LayoutError, match=r"moveaxis\(x, 1, -1\)"):
        conv(jnp.ones((2, 3, 9, 7)))
    with pytest.raises(LayoutError, match=r"moveaxis\(x, 0, -1\)"):
        conv(jnp.ones((3, 9, 7)))


def test_integers_are_refused():
    with pytest.raises(TypeError, match="floating point"):
        nn.Conv2d(3, 8, 3, rngs=nnx.Rngs(0))(jnp.ones((2, 9, 7, 3), jnp.int32))


def test_it_is_an_nnx_conv():
    conv = nn.Conv2d(4, 8, 3, groups=2, rngs=nnx.Rngs(0))
    assert isinstance(conv, nnx.Conv)
    assert conv.kernel.shape == (3, 3, 2, 8)


def test_dtype_is_the_computing_type():
    conv = nn.Conv2d(3, 8, 3, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    assert conv(jnp.ones((2, 9, 7, 3))).dtype == jnp.bfloat16
    assert conv.kernel.dtype == jnp.float32
