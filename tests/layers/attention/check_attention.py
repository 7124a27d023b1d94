"""Checks that apply to every attention layer, regardless of its score."""

import json

import keras
import numpy as np
import tensorflow as tf

from ...eager import in_graphs

GENERATOR = np.random.default_rng(3)
QUERY = GENERATOR.normal(size=(3, 4, 6)).astype("float32")
VALUE = GENERATOR.normal(size=(3, 5, 6)).astype("float32")
QUERY_MASK = np.array([[1, 1, 1, 1], [1, 1, 1, 0], [1, 1, 0, 0]], bool)
VALUE_MASK = np.array([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [0, 0, 0, 0, 0]], bool)  # no step to attend to in the last row


def randomized(layer, query=QUERY, value=VALUE):
    """Builds a layer and sets weights that its initializers would not produce."""
    layer.build(query.shape, value.shape)
    generator = np.random.default_rng(4)
    layer.set_weights([generator.normal(0.3, 0.7, weight.shape) for weight in layer.get_weights()])
    return layer


def check_attention(cls, arguments, folder, heads=2, compiled=True, tolerance=1e-5, half_tolerance=0.06):
    """Checks configuration, shapes, saving, steps, dropout, scores, padding, graphs and mixed precision of a layer.

    Args:
        cls: the layer class.
        arguments: dict, its arguments.
        folder: a path for the saved model.
        heads: int, a second number of heads to check, or None if the layer has only one.
        compiled: bool, whether to also compile the layer with XLA.
        tolerance: float, the largest difference between equal float32 results.
        half_tolerance: float, likewise between mixed precision and float32.
    """
    layer = randomized(cls(**arguments, name="checked"))
    check_configuration(layer, arguments)
    check_shapes(layer)
    check_saving(layer, folder)
    check_step(layer, tolerance)
    check_dropout(cls, arguments)
    layers = [layer] if heads is None else [layer, randomized(cls(**arguments, num_heads=heads))]
    for each in layers:
        check_scores(each, tolerance)
        check_padding(each, tolerance)
    if compiled:
        check_compiled(layers[-1], tolerance)
    for policy in ("mixed_float16", "mixed_bfloat16"):
        half = randomized(cls(**arguments, dtype=policy))
        assert {weight.dtype for weight in half.weights} <= {"float32"}
        for scores in (False, True):
            options = {"value_mask": VALUE_MASK, "return_attention_scores": scores}
            found, expected = (tf.nest.flatten(each(QUERY, VALUE, **options)) for each in (half, layer))
            for one, other in zip(found, expected, strict=True):
                assert one.dtype.name == half.compute_dtype
                np.testing.assert_allclose(tf.cast(one, "float32"), other, atol=half_tolerance)


def check_configuration(layer, arguments):
    config = layer.get_config()
    twin = type(layer).from_config(json.loads(json.dumps(config)))
    assert twin.get_config() == config
    assert set(arguments) <= set(config)
    randomized(twin)
    assert [weight.path for weight in twin.weights] == [weight.path for weight in layer.weights]
    np.testing.assert_array_equal(twin(QUERY, VALUE), layer(QUERY, VALUE))


def check_shapes(layer):
    context, weights = layer(QUERY, VALUE, return_attention_scores=True)
    assert context.shape == layer.compute_output_shape(QUERY.shape, VALUE.shape) == (3, 4, 6)
    both = layer.compute_output_shape(QUERY.shape, VALUE.shape, return_attention_scores=True)
    assert both == ((3, 4, 6), (3, 4, 5)) == (context.shape, weights.shape)
    query, value = keras.KerasTensor((None, None, 6)), keras.KerasTensor((None, None, 6))
    assert layer(query, value).shape == (None, None, 6)
    outputs = layer(query, value, return_attention_scores=True)
    assert [tensor.shape for tensor in outputs] == [(None, None, 6), (None, None, None)]


def check_scores(layer, tolerance):
    """Compares results and gradients with and without weights: the kernels of ops against the plain formula."""
    for options in ({}, {"value_mask": VALUE_MASK, "query_mask": QUERY_MASK}, {"use_causal_mask": True}):
        results = []
        for scores in (False, True):
            variables = [tf.Variable(QUERY), tf.Variable(VALUE), *(weight.value for weight in layer.trainable_weights)]
            with tf.GradientTape() as tape:
                context = layer(*variables[:2], return_attention_scores=scores, **options)
                context, weights = context if scores else (context, None)
                total = tf.reduce_sum(tf.sin(context))
            results.append([context, *(x for x in tape.gradient(total, variables) if x is not None)])
        for one, other in zip(*results, strict=True):
            np.testing.assert_allclose(one, other, atol=tolerance * max(1, np.abs(other).max()))
        weights = np.asarray(weights).reshape(3, -1, 4, 5)
        if options.get("use_causal_mask"):
            assert (weights[:, :, np.triu(np.ones((4, 5), bool), 2)] == 0).all()
            for t in range(4):
                earlier = layer(QUERY[:, : t + 1], VALUE[:, : t + 2], use_causal_mask=True)
                np.testing.assert_allclose(earlier, context[:, : t + 1], atol=tolerance)
        elif options:
            assert not weights[2].any() and not weights[1, :, :, 2:].any() and not weights[1, :, 3].any()
            assert not np.asarray(context)[2].any() and not np.asarray(context)[1, 3].any()
    key = GENERATOR.normal(size=VALUE.shape).astype("float32")
    one, (other, _) = (layer(QUERY, VALUE, key, return_attention_scores=scores) for scores in (False, True))
    np.testing.assert_allclose(one, other, atol=tolerance)


def check_padding(layer, tolerance):
    """Padding changes neither results nor gradients, regardless of its content and length."""
    clean = None
    for junk in ([0.0], [np.nan, 1e6, np.inf, -np.inf]):
        query, value = (
            tf.Variable(np.where(mask[..., None], x, np.resize(np.float32(junk), x.shape)))
            for x, mask in ((QUERY, QUERY_MASK), (VALUE, VALUE_MASK))
        )
        for scores in (False, True):
            weights = [weight.value for weight in layer.trainable_weights]
            with tf.GradientTape() as tape:
                masks = {"query_mask": QUERY_MASK, "value_mask": VALUE_MASK}
                context = layer(query, value, return_attention_scores=scores, **masks)
                context = context[0] if scores else context
                total = tf.reduce_sum(tf.sin(context))
            slopes = tape.gradient(total, [query, value, *weights], unconnected_gradients="zero")
            clean = clean or [context, *slopes]
            for one, other in zip([context, *slopes], clean, strict=True):
                np.testing.assert_allclose(one, other, atol=tolerance * max(1, np.abs(other).max()))
            assert not np.asarray(slopes[0])[~QUERY_MASK].any() and not np.asarray(slopes[1])[~VALUE_MASK].any()
    np.testing.assert_allclose(layer(QUERY[1:2, :3], VALUE[1:2, :2]), clean[0][1:2, :3], atol=tolerance)


def check_step(layer, tolerance):
    """Single steps give the same results as a call with all queries."""
    clean = np.where(VALUE_MASK[..., None], VALUE, 0)
    context, weights = layer(QUERY, VALUE, value_mask=VALUE_MASK, return_attention_scores=True)
    keys, previous = layer.project_key(clean), layer.initial_alignment(clean)
    assert previous.shape == (3, 5)
    for t in range(4):
        one, previous = layer.step(QUERY[:, t], keys, clean, VALUE_MASK, previous)
        np.testing.assert_allclose(one, context[:, t], atol=tolerance)
        np.testing.assert_allclose(previous, weights[:, t], atol=tolerance)


def check_dropout(cls, arguments):
    layer = randomized(cls(**{**arguments, "dropout": 0.5, "seed": 1}))
    for scores in (False, True):
        draws = [layer(QUERY, VALUE, training=True, return_attention_scores=scores) for _ in range(2)]
        one, other = ([draw[0] for draw in draws]) if scores else draws
        assert np.abs(one - other).max() > 1e-3
    again = [randomized(cls(**{**arguments, "dropout": 0.5, "seed": 1}))(QUERY, VALUE, training=True) for _ in "ab"]
    np.testing.assert_array_equal(*again)
    np.testing.assert_array_equal(layer(QUERY, VALUE), randomized(cls(**arguments))(QUERY, VALUE))


def check_saving(layer, folder):
    layer = randomized(type(layer).from_config(layer.get_config()))  # the first call determines the outputs
    query, value, mask = keras.Input((None, 6)), keras.Input((None, 6)), keras.Input((None,), dtype="bool")
    model = keras.Model(
        [query, value, mask], layer(query, value, value_mask=mask, use_causal_mask=True, return_attention_scores=True)
    )
    model.save(folder / "checked.keras")
    loaded = keras.saving.load_model(folder / "checked.keras")
    for one, other in zip(*(each([QUERY, VALUE, VALUE_MASK]) for each in (model, loaded)), strict=True):
        np.testing.assert_array_equal(one, other)


@in_graphs()
def check_compiled(layer, tolerance):
    """Compiles the layer and its gradient with XLA; `test_base.py` traces all layers for unknown shapes."""

    def call(query, value, mask):
        with tf.GradientTape() as tape:
            tape.watch(value)
            context = layer(query, value, value_mask=mask)
            total = tf.reduce_sum(tf.sin(context))
        return context, tape.gradient(total, value)

    inputs = [tf.constant(x) for x in (QUERY, VALUE, VALUE_MASK)]
    for one, other in zip(tf.function(call, jit_compile=True)(*inputs), call(*inputs), strict=True):
        np.testing.assert_allclose(one, other, atol=tolerance)
