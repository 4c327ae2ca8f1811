"""Every formulation of a convolution gives what XLA's convolution gives, gradients included."""

from __future__ import annotations

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fluxmod.nn._lowering.conv import (
    FORMULATIONS,
    MOST_SHIFTS,
    ConvShape,
    conv_general,
    formulation,
)


@st.composite
def shapes(draw):
    """Convolutions around the borders of the rules: 1-3 axes, groups, strides, gaps, no padding."""
    nd = draw(st.integers(1, 3))
    sizes = st.lists(st.integers(1, 3), min_size=nd, max_size=nd).map(tuple)
    kernel, dilation = draw(sizes), draw(sizes)
    strides = draw(st.one_of(sizes, st.just(kernel)))
    pads = st.tuples(st.integers(0, 2), st.integers(0, 2))
    padding = draw(st.one_of(st.just(((0, 0),) * nd), st.tuples(*[pads] * nd)))
    groups, inputs, outputs = (
        draw(st.sampled_from([1, 2, 6, 16])),
        *draw(st.tuples(st.integers(1, 3), st.integers(1, 3))),
    )
    spatial = tuple(draw(st.integers(1, 7)) for _ in range(nd))
    for n, k, d, (low, high) in zip(spatial, kernel, dilation, padding, strict=True):
        assume(n + low + high >= d * (k - 1) + 1)
    return ConvShape(spatial, kernel, inputs, outputs, strides, padding, dilation, groups)


def run(name, shape, x, kernel, weight):
    def total(x, kernel):
        out = FORMULATIONS[name](x, kernel, shape, None)
        return jnp.vdot(out, weight[: out.size].reshape(out.shape)), out

    work = jax.jit(
        jax.grad(total, argnums=(0, 1), has_aux=True),
        compiler_options={"xla_backend_optimization_level": 0},
    )
    grads, out = work(x, kernel)
    return [np.asarray(a) for a in (out, *grads)]


@given(shapes())
def test_the_chosen_formulation_is_the_convolution(shape):
    chosen = formulation(shape, "cpu")
    assume(chosen not in ("direct", "single"))
    is_equal(shape, chosen)


def is_equal(shape, chosen):
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        x = jnp.asarray(rng.standard_normal((2, *shape.spatial, shape.groups * shape.inputs)))
        size = (*shape.kernel, shape.inputs, shape.groups * shape.outputs)
        kernel = jnp.asarray(rng.standard_normal(size))
        weight = jnp.asarray(rng.standard_normal(100_000))
        for got, want in zip(
            run(chosen, shape, x, kernel, weight),
            run("direct", shape, x, kernel, weight),
            strict=True,
        ):
            np.testing.assert_allclose(got, want, rtol=1e-11, atol=1e-12)


# Not hypothesis's choice: XLA aborts on the gradient of some convolutions with strides and gaps.
SMALL = [
    ConvShape((5,), (3,), 2, 3, (2,), ((1, 2),), (1,), 1),
    ConvShape((9,), (3,), 1, 2, (2,), ((4, 4),), (3,), 1),
    ConvShape((6, 5), (3, 2), 3, 4, (1, 2), ((1, 1), (0, 1)), (1, 2), 1),
    ConvShape((2, 2), (3, 3), 4, 2, (1, 1), ((1, 1), (1, 1)), (1, 1), 1),
    ConvShape((3, 4, 5), (2, 1, 3), 2, 2, (1, 2, 1), ((0, 1), (0, 0), (1, 1)), (1, 1, 2), 1),
]


@pytest.mark.parametrize("name", ["columns", "single"])
@pytest.mark.parametrize("shape", SMALL)
def test_columns_are_the_convolution(shape, name):
    is_equal(shape, name)


@pytest.mark.parametrize("outputs", [5, 16, 32])
@pytest.mark.parametrize("strides", [(1, 1), (2, 1), (1, 2), (3, 3)])
def test_tiles_are_the_convolution(strides, outputs):
    is_equal(ConvShape((7, 19), (2, 3), 3, outputs, strides, ((1, 0), (2, 1)), (1, 1), 1), "tiles")


def test_the_kernels_gradient_of_one_example_is_a_product():
    def gradient(x, kernel, cotangent):
        shape = conv(batch=1, outputs=64)
        return jax.vjp(lambda k: FORMULATIONS["single"](x, k, shape, None), kernel)[1](cotangent)

    shapes = (1, 9, 9, 8), (3, 3, 8, 64), (1, 7, 7, 64)
    found = str(jax.make_jaxpr(gradient)(*map(jnp.ones, shapes)))
    assert found.count("conv_general_dilated[") == found.count("custom_jvp_call[")  # forward
    assert found.count("dot_general[") == 1


def conv(
    kernel=(3, 3), inputs=8, groups=1, strides=(1, 1), padding=((0, 0),) * 2, gaps=(1, 1), **more
):
    more = {"batch": 64, "outputs": 4} | more
    more = {"spatial": (9, 9)} | more
    given = dict(kernel=kernel, inputs=inputs, strides=strides, dilation=gaps)
    return ConvShape(**given, padding=padding, groups=groups, **more)


@pytest.mark.parametrize(
    ("shape", "name"),
    [
        (conv(), "direct"),
        (conv(batch=1, inputs=66, outputs=60), "columns"),
        (conv(batch=1, inputs=66, outputs=50), "single"),  # a small kernel
        (conv(batch=2, inputs=66, outputs=60), "single"),  # 98 windows of 594 numbers
        (conv(batch=3, inputs=66, outputs=60), "direct"),
        (conv(batch=2, inputs=66, outputs=60, spatial=(90, 90)), "direct"),  # 9 million in windows
        (conv(batch=2, inputs=131, outputs=60), "columns"),
        (conv((9, 9), batch=2, inputs=131, outputs=60), "direct"),  # many taps
        (conv(batch=10, inputs=1000), "direct"),  # 4.4 million numbers in windows
        (conv(batch=9, inputs=1000), "columns"),
        (conv(strides=(3, 2), batch=12, outputs=500), "columns"),
        (conv(strides=(3, 2), batch=13, outputs=500), "direct"),  # 156 windows of 72 numbers
        (conv(batch=1, groups=2, inputs=66, outputs=60), "blocks"),
        (conv((1, 1)), "matmul"),
        (conv((1, 1), gaps=(2, 2)), "matmul"),
        (conv((1, 1), padding=((1, 1), (0, 0))), "direct"),
        (conv((3, 3), strides=(3, 3)), "matmul"),
        (conv((3, 3), strides=(3, 2)), "direct"),
        (conv(inputs=1, groups=8), "shifts"),
        (conv(inputs=1), "tiles"),
        (conv(inputs=3), "tiles"),
        (conv(inputs=4), "direct"),  # 36 numbers a window
        (conv(inputs=3, outputs=32), "tiles"),
        (conv(inputs=3, outputs=33), "direct"),
        (conv((3, 1), inputs=3), "direct"),  # no neighbours to share
        (conv(inputs=3, gaps=(1, 2)), "direct"),
        (conv((9, 9), inputs=1, groups=8), "blocks"),
        (conv(groups=4), "blocks"),
        (conv(inputs=0), "direct"),
    ],
)
def test_the_rules(shape, name):
    assert formulation(shape, "cpu") == name
    assert formulation(shape, "gpu") == "direct"
    assert MOST_SHIFTS < 81


@pytest.mark.parametrize(("name", "groups"), [("shifts", 3), ("single", 1)])
def test_forward_mode_per_example_and_second_derivatives(name, groups):
    inputs = 3 // groups
    more = (2, 1), ((1, 1), (0, 1)), (1, 2), groups
    shape = ConvShape((6, 5), (3, 2), inputs, 6 // groups, *more)
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        x, dx = jnp.asarray(rng.standard_normal((2, 4, 6, 5, 3)))
        kernel, dkernel = jnp.asarray(rng.standard_normal((2, 3, 2, inputs, 6)))

        def found(name):
            def call(x, kernel):
                return FORMULATIONS[name](x, kernel, shape, None)

            def loss(kernel, image):
                return (call(image[None], kernel) ** 3).sum()

            yield jax.jvp(call, (x, kernel), (dx, dkernel))[1]
            yield jax.vmap(jax.grad(loss), (None, 0))(kernel, x)
            yield jax.hessian(loss)(kernel, x[0])

        for got, want in zip(found(name), found("direct"), strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("sizes", ["n, 6, 5, 3", "n, h, w, 3"])
def test_sizes_that_export_leaves_open(groups, sizes):
    """Gradients of stems and depthwise kernels for any number, height and width of images."""
    kernel = jnp.asarray(np.random.default_rng(0).standard_normal((3, 3, 3 // groups, 3)))

    def gradients(x):
        def loss(x, kernel):
            out = conv_general(x, kernel, (1, 1), ((1, 1),) * 2, (1, 1), groups, None)
            return (out**2).sum()

        return jax.grad(loss, argnums=(0, 1))(x, kernel)

    shape = jax.export.symbolic_shape(
        sizes, constraints=["h >= 3", "w >= 3"][: sizes.count("h") * 2]
    )
    exported = jax.export.export(jax.jit(gradients))(jax.ShapeDtypeStruct(shape, jnp.float32))
    x = jnp.asarray(np.random.default_rng(1).standard_normal((4, 6, 5, 3)), jnp.float32)
    for got, want in zip(exported.call(x), gradients(x), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


def test_half_precision_sums_in_float32():
    shape = ConvShape((64,), (9,), 1, 1, (1,), ((4, 4),), (1,), 3)
    x = jnp.asarray(np.random.default_rng(0).standard_normal((2, 64, 3)), jnp.bfloat16)
    kernel = jnp.asarray(np.random.default_rng(1).standard_normal((9, 1, 3)), jnp.bfloat16)
    got = FORMULATIONS["shifts"](x, kernel, shape, None)
    want = FORMULATIONS["direct"](x.astype(jnp.float32), kernel.astype(jnp.float32), shape, None)
    assert got.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(got, np.float32), want, rtol=2**-8, atol=2**-8)


@pytest.mark.parametrize("batch", [1, 6, 7, 16])
def test_gradients_of_shifts_in_blocks_of_images_and_lines(batch):
    shape = ConvShape((12, 5), (3, 2), 1, 2, (1, 2), ((1, 1), (0, 1)), (1, 1), 3, batch)
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        x = jnp.asarray(rng.standard_normal((batch, 12, 5, 3)))
        kernel = jnp.asarray(rng.standard_normal((3, 2, 1, 6)))
        weight = jnp.asarray(rng.standard_normal(10_000))
        for got, want in zip(
            run("shifts", shape, x, kernel, weight),
            run("direct", shape, x, kernel, weight),
            strict=True,
        ):
            np.testing.assert_allclose(got, want, rtol=1e-11, atol=1e-12)


def test_the_depthwise_gradient_reads_the_input_once_for_all_taps():
    """One array of products is written and reduced, not one for every tap of the kernel."""
    shape = ConvShape((8, 8), (3, 3), 1, 1, (1, 1), ((1, 1),) * 2, (1, 1), 4, 2)

    def gradient(x, kernel, cotangent):
        out = jax.vjp(lambda k: FORMULATIONS["shifts"](x, k, shape, None), kernel)[1]
        return out(cotangent)

    x = jnp.ones((2, 8, 8, 4))
    reductions = str(jax.make_jaxpr(gradient)(x, jnp.ones((3, 3, 1, 4)), x)).count("reduce_sum")
    assert reductions == 1
