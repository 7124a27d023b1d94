"""peephole_lstm, compared to a textbook recursion in NumPy, finite differences and autodiff."""

import importlib.util
import os
import subprocess
import sys

import hypothesis
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as st

from keras_dl.ops import recurrence
from keras_dl.ops.recurrence import peephole_lstm


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def textbook(x, h, c, kernel, recurrent_kernel, bias, *peepholes, mask=None):
    """Returns outputs, h and c of the textbook recursion."""
    outputs, last = [], np.zeros_like(h)
    for t in range(x.shape[1]):
        keep = np.ones((len(x), 1), bool) if mask is None else mask[:, t, None]
        now = np.where(keep, x[:, t], 0)
        i, *f, g, o = np.split(now @ kernel + h @ recurrent_kernel + bias, len(peepholes) + 1, axis=1)
        i = sigmoid(i + peepholes[0] * c)
        f = sigmoid(f[0] + peepholes[1] * c) if f else 1 - i
        new = f * c + i * np.tanh(g)
        out = sigmoid(o + peepholes[-1] * new) * np.tanh(new)
        h, c, last = np.where(keep, out, h), np.where(keep, new, c), np.where(keep, out, last)
        outputs.append(last)
    return np.stack(outputs, 1), h, c


def random_case(batch, steps, features, units, coupled, seed=0, dtype="float64"):
    generator, gates = np.random.default_rng(seed), 3 if coupled else 4
    shapes = [(batch, steps, features), (batch, units), (batch, units), (features, gates * units)]
    shapes += [(units, gates * units), (gates * units,), *[(units,)] * (gates - 1)]
    return [generator.normal(0, 0.7, shape).astype(dtype) for shape in shapes]


def call(x, h, c, kernel, recurrent_kernel, bias, *peepholes, **options):
    return peephole_lstm(x, (h, c), kernel, recurrent_kernel, bias, peepholes, **options)


def with_gradient(case, **options):
    """Returns the results, and the gradients of a function of them for each tensor of the case."""

    def function(*case):
        with tf.GradientTape() as tape:
            tape.watch(case)
            results = call(*case, **options)
            total = sum(tf.reduce_sum(tf.sin(result) + result**2) for result in results)
        return [*results, *tape.gradient(total, case)]

    return function


def as_tensors(case):
    return [tf.constant(value) for value in case]


def masks(batch, steps):
    """Returns no mask, and padding on the right, on the left, with gaps, and everywhere."""
    time = np.arange(steps)[None]
    length = np.random.default_rng(3).integers(0, steps + 1, (batch, 1))
    holes = np.random.default_rng(4).random((batch, steps)) > 0.4
    return [None, time < length, time >= steps - length, holes, np.zeros((batch, steps), bool)]


@pytest.fixture
def by_autodiff(monkeypatch):
    """Runs the plain path of all backends, differentiated by TensorFlow."""

    def run(case, **options):
        with monkeypatch.context() as patch:
            patch.setattr(recurrence, "fused_loop", recurrence._run)
            return with_gradient(case, **options)(*as_tensors(case))

    return run


@pytest.mark.parametrize("coupled", [False, True])
def test_matches_the_textbook_recursion(coupled):
    for batch, steps in ((3, 1), (2, 4), (3, 11)):  # the second shape relaxes the trace of the first
        case = random_case(batch, steps, 2, 5, coupled)
        for mask in masks(batch, steps):
            for found, expected in zip(call(*case, mask=mask), textbook(*case, mask=mask), strict=True):
                np.testing.assert_allclose(found, expected, atol=1e-12)


def test_one_step_matches_the_test_of_tensorflow_addons():
    one, none = np.ones((4, 20), "float32"), np.zeros((4, 5), "float32")
    x = np.eye(5, dtype="float32")[[1, 2, 3, 4], :4]
    bias = np.repeat([0, 1, 0, 0], 5).astype("float32")
    outputs, *_ = call(x[:, None], none, none, one, np.ones((5, 20), "float32"), bias, *np.ones((3, 5), "float32"))
    np.testing.assert_allclose(outputs[:, 0], np.repeat([[0.417551]] * 3 + [[0]], 5, axis=1), atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "coupled"), [(0, True), (1, True), pytest.param(2, False, marks=pytest.mark.slow), (3, False), (4, False)]
)
def test_the_gradient_matches_autodiff(kind, coupled, by_autodiff):
    case = random_case(3, 6, 2, 5, coupled)
    options = {"mask": masks(3, 6)[kind], "zero_output_for_mask": kind == 3, "go_backwards": kind == 1}
    if kind in (0, 3):
        options["recurrent_dropout_mask"] = tf.constant(np.random.default_rng(5).integers(0, 2, (3, 5)) * 2.0)
    expected = by_autodiff(case, **options)
    for found, value in zip(with_gradient(case, **options)(*as_tensors(case)), expected, strict=True):
        np.testing.assert_allclose(found, value, atol=1e-12)


def test_the_gradient_matches_finite_differences():
    case, mask = random_case(3, 6, 2, 5, False), masks(3, 6)[3]
    slopes = with_gradient(case, mask=mask)(*as_tensors(case))[3:]

    def total(case):
        return sum(np.sum(np.sin(result) + result**2) for result in textbook(*case, mask=mask))

    generator, small = np.random.default_rng(6), 1e-6
    for number, slope in enumerate(slopes):
        direction = generator.normal(size=case[number].shape)
        above, below = (
            [value + sign * small * direction if n == number else value for n, value in enumerate(case)]
            for sign in (1, -1)
        )
        expected = (total(above) - total(below)) / (2 * small)
        np.testing.assert_allclose(np.sum(slope * direction), expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("jit", [False, True])
def test_one_graph_accepts_any_batch_and_length(jit):
    signature = [tf.TensorSpec(value.shape, "float64") for value in random_case(3, 1, 2, 5, False)]
    signature[:3] = [tf.TensorSpec([None, *[None] * (len(s.shape) - 2), s.shape[-1]], s.dtype) for s in signature[:3]]

    @tf.function(autograph=False, jit_compile=jit, input_signature=[*signature, tf.TensorSpec([None, None], tf.bool)])
    def graph(*tensors):
        return with_gradient(tensors[:-1], mask=tensors[-1])(*tensors[:-1])

    # XLA compiles each shape; with 4 steps, one loop has an iteration and the other has none.
    for batch, steps in ((3, 4),) if jit else ((3, 1), (2, 6), (3, 4), (2, 0)):
        case, mask = random_case(batch, steps, 2, 5, False), masks(batch, steps)[3]
        for found, expected in zip(graph(*case, mask), with_gradient(case, mask=mask)(*as_tensors(case)), strict=True):
            np.testing.assert_allclose(found, expected, atol=1e-12)


@hypothesis.settings(max_examples=10, deadline=None, derandomize=True)
@hypothesis.given(st.integers(1, 4), st.integers(1, 9), st.booleans(), st.data())
def test_any_shape_and_mask(batch, steps, coupled, data):
    case = random_case(batch, steps, 2, 5, coupled, data.draw(st.integers(0, 99)))
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=batch * steps, max_size=batch * steps)))
    mask = mask.reshape(batch, steps)
    expected = textbook(*case, mask=mask)
    case[0] = np.where(mask[..., None], case[0], np.nan)
    found = with_gradient(case, mask=mask)(*as_tensors(case))
    for result, value in zip(found[:3], expected, strict=True):
        np.testing.assert_allclose(result, value, atol=1e-12)
    assert all(np.isfinite(slope).all() for slope in found)
    assert not np.any(found[3][~mask])


def test_running_backwards():
    case = random_case(2, 5, 2, 5, False)
    turned = call(case[0][:, ::-1], *case[1:])
    for found, expected in zip(call(*case, go_backwards=True), turned, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_outputs_of_masked_steps():
    case = random_case(1, 4, 2, 5, False)
    mask = np.array([[False, True, False, True]])
    repeated, h, _ = call(*case, mask=mask)
    zeroed, *_ = call(*case, mask=mask, zero_output_for_mask=True)
    assert not np.any(repeated[:, 0]) and not np.any(zeroed[:, 0]) and not np.any(zeroed[:, 2])
    np.testing.assert_array_equal(repeated[:, 2], repeated[:, 1])
    np.testing.assert_array_equal(repeated[:, 3], h)


def test_no_steps_keep_the_state():
    case = random_case(2, 0, 2, 5, False)
    outputs, *state = call(*case)
    assert outputs.shape == (2, 0, 5)
    np.testing.assert_array_equal(state, case[1:3])


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [
        ("float32", 2e-6),
        *(pytest.param(*each, marks=pytest.mark.slow) for each in (("float16", 4e-3), ("bfloat16", 3e-2))),
    ],
)
def test_half_precision_inputs_and_outputs(dtype, tolerance):
    case = random_case(3, 9, 2, 5, False)
    low = [tf.cast(value, dtype) for value in case]
    found = with_gradient(low)(*low)
    expected = with_gradient(case)(*[tf.cast(value, "float64") for value in low])
    for result, value in zip(found, expected, strict=True):
        assert result.dtype == dtype
        error = np.max(np.abs(tf.cast(result, "float64") - value)) / np.max(np.abs(value))
        assert error < tolerance


def test_the_cell_state_does_not_stall_in_half_precision():
    # Each step adds 1/2048 to c, which has no effect in float16 if c is 1 or more.
    steps, none = 4000, tf.zeros((1, 1), "float16")
    bias = tf.constant([20, 20, 1 / 2048, 0], "float16")
    case = (tf.zeros((1, steps, 1), "float16"), none, none, tf.zeros((1, 4), "float16"), tf.zeros((1, 4), "float16"))
    _, _, c = call(*case, bias, *[tf.zeros((1,), "float16")] * 3)
    np.testing.assert_allclose(c, [[steps / 2048]], rtol=2e-2)


@pytest.mark.parametrize("traced", [pytest.param(False, marks=pytest.mark.slow), True])
def test_second_order_gradients_raise(traced):
    case = as_tensors(random_case(3, 1 if traced else 6, 2, 5, False))

    def second():
        with tf.GradientTape() as outer:
            outer.watch(case[0])
            with tf.GradientTape() as inner:
                inner.watch(case[0])
                total = tf.reduce_sum(call(*case)[0])
            slope = tf.reduce_sum(inner.gradient(total, case[0]) ** 2)
        return outer.gradient(slope, case[0])

    with pytest.raises(ValueError, match="first-order gradients .* Received: a request"):
        (tf.function(second, autograph=False) if traced else second)()


@pytest.mark.parametrize("varied", [0, 4])  # the inputs, the recurrent kernel
def test_forward_mode_in_eager_mode(varied):
    case = [tf.cast(value, "float64") for value in as_tensors(random_case(3, 4, 2, 5, False))]
    direction = tf.constant(np.random.default_rng(0).normal(size=case[varied].shape))
    mask = tf.constant([[True] * 4, [True, True, False, False], [True, False, False, False]])

    def outputs(value):
        return call(*case[:varied], value, *case[varied + 1 :], mask=mask)[0]

    with tf.autodiff.ForwardAccumulator(case[varied], direction) as accumulator:
        found = outputs(case[varied])
    np.testing.assert_allclose(found, outputs(case[varied]), atol=1e-12)
    slope = (outputs(case[varied] + 1e-5 * direction) - outputs(case[varied] - 1e-5 * direction)) / 2e-5
    np.testing.assert_allclose(accumulator.jvp(found), slope, atol=1e-8)


ELSEWHERE = """
import numpy as np, keras, {module}
from keras_dl.layers import PeepholeLSTM
assert keras.backend.backend() == {backend!r}
x = np.random.default_rng(0).normal(size=(2, 5, 3)).astype("float32")
layer = PeepholeLSTM(4, return_sequences=True)
layer.build(x.shape)
generator = np.random.default_rng(1)
layer.set_weights([generator.normal(0, 0.5, w.shape) for w in layer.get_weights()])
mask = np.array([[True, True, False, True, False], [True] * 5])
print(keras.ops.convert_to_numpy(layer(x, mask=mask)).astype("float64").tolist())
"""


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_another_backend_agrees(backend):
    if not importlib.util.find_spec(backend):
        pytest.skip(f"{backend} is not installed")
    environment = {**os.environ, "KERAS_BACKEND": backend}
    code = ELSEWHERE.format(module=backend, backend=backend)
    answer = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    generator, shapes = np.random.default_rng(1), [(3, 16), (4, 16), (16,), (4,), (4,), (4,)]
    weights = [generator.normal(0, 0.5, shape) for shape in shapes]
    x = np.random.default_rng(0).normal(size=(2, 5, 3)).astype("float32")
    mask = np.array([[True, True, False, True, False], [True] * 5])
    expected, *_ = textbook(x, np.zeros((2, 4)), np.zeros((2, 4)), *weights, mask=mask)
    np.testing.assert_allclose(eval(answer.stdout), expected, atol=1e-6)
