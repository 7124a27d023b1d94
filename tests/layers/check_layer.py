"""Checks that apply to every sequence layer."""

import json

import keras
import numpy as np
import tensorflow as tf

from ..eager import in_graphs


def check_layer(cls, arguments, inputs, folder, tolerance=1e-5, half_tolerance=0.05, compiled=True):
    """Checks configuration, shapes, saving, padding, training, mixed precision and XLA compilation of a layer.

    Args:
        cls: the layer class; it takes and returns `[B, T, features]`, and accepts a `mask`.
        arguments: dict, its arguments.
        inputs: float array `[B, T, features]` without padding, T > 2.
        folder: a path for the saved model.
        tolerance: float, the largest difference between equal float32 results.
        half_tolerance: float, likewise between mixed precision and float32.
        compiled: bool, whether to also check a graph for unknown shapes and one compiled by XLA.

    Returns:
        The built layer, with random weights if it has trainable ones.
    """
    inputs = np.asarray(inputs, "float32")
    generator = np.random.default_rng(0)

    # Construction and configuration.
    layer = cls(**arguments, name="checked")
    symbolic = layer(keras.KerasTensor((None, None, inputs.shape[-1])))
    if layer.trainable_weights:
        layer.set_weights([generator.normal(0, 0.5, weight.shape) for weight in layer.get_weights()])
    config = layer.get_config()
    twin = cls.from_config(json.loads(json.dumps(config)))
    assert twin.get_config() == config
    assert set(arguments) <= set(config)
    twin.build(inputs.shape)
    assert [weight.path for weight in twin.weights] == [weight.path for weight in layer.weights]
    twin.set_weights(layer.get_weights())
    outputs = _array(layer(inputs))
    np.testing.assert_array_equal(_array(twin(inputs)), outputs)

    # Computed shapes and dtypes match the results, with and without known axes.
    assert outputs.shape == layer.compute_output_shape(inputs.shape) == (*inputs.shape[:2], symbolic.shape[-1])
    assert symbolic.shape[:2] == (None, None)
    assert symbolic.dtype == keras.backend.standardize_dtype(layer(inputs).dtype)

    # A functional model is saved and loaded.
    model = _masked_model(layer, inputs.shape[-1])
    everywhere = np.ones(inputs.shape[:2], bool)
    model.save(folder / "checked.keras")
    loaded = keras.saving.load_model(folder / "checked.keras")
    np.testing.assert_array_equal(_array(loaded([inputs, everywhere])), _array(model([inputs, everywhere])))

    # Padding has no effect, regardless of its content.
    for junk in (0.0, 1e4, np.nan):
        padded = np.concatenate([inputs, np.full_like(inputs, junk)[:, :2]], axis=1)
        mask = np.pad(everywhere, [[0, 0], [0, 2]])
        with tf.GradientTape() as tape:
            result = tf.cast(layer(padded, mask=mask), tf.float32)
            total = tf.reduce_sum(result)
        np.testing.assert_allclose(result[:, : inputs.shape[1]], outputs, atol=tolerance)
        assert np.isfinite(result).all()
        assert all(np.isfinite(slope).all() for slope in tape.gradient(total, layer.trainable_weights))

    # The layer learns.
    before = [weight.copy() for weight in layer.get_weights()]
    if layer.trainable_weights:
        model.compile(keras.optimizers.SGD(0.1), "mse", run_eagerly=True)
        history = model.fit([inputs, everywhere], outputs + 1, epochs=2, verbose=0).history["loss"]
        assert history[1] < history[0]
        assert all((a != b).any() for a, b in zip(before, layer.get_weights(), strict=True))
        layer.set_weights(before)

    # With mixed precision, weights stay float32 and results stay close.
    for policy in ("mixed_float16", "mixed_bfloat16"):
        half = cls(**arguments, dtype=policy)
        symbolic = half(keras.KerasTensor((None, None, inputs.shape[-1])))
        half.set_weights(before)
        assert {weight.dtype for weight in half.weights} <= {"float32", "int32"}
        result = half(inputs)
        assert keras.backend.standardize_dtype(result.dtype) == symbolic.dtype
        np.testing.assert_allclose(_array(result), outputs, atol=half_tolerance)

    if compiled:
        _check_graphs(layer, inputs, everywhere, outputs, tolerance)
    return layer


@in_graphs()
def _check_graphs(layer, inputs, mask, outputs, tolerance):
    """Traces the layer once for any batch size and length, and compiles it with XLA if it supports that."""
    signature = [tf.TensorSpec([None, None, inputs.shape[-1]]), tf.TensorSpec([None, None], tf.bool)]
    graph = tf.function(lambda x, mask: layer(x, mask=mask), input_signature=signature)
    np.testing.assert_allclose(_array(graph(inputs, mask)), outputs, atol=tolerance)
    np.testing.assert_allclose(_array(graph(inputs[:1], mask[:1])), outputs[:1], atol=tolerance)
    if layer.supports_jit:
        compiled = tf.function(lambda x, mask: layer(x, mask=mask), jit_compile=True)
        np.testing.assert_allclose(_array(compiled(inputs, mask)), outputs, atol=tolerance)


def _masked_model(layer, features):
    sequence, mask = keras.Input((None, features)), keras.Input((None,), dtype="bool")
    return keras.Model([sequence, mask], layer(sequence, mask=mask))


def _array(tensor):
    return keras.ops.convert_to_numpy(keras.ops.cast(tensor, "float32"))
