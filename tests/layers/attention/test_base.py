"""Tests of what all attention layers share: Keras masks, training, export, and input checks."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_dl import layers
from keras_dl.layers import (
    AdditiveAttention,
    CosineAttention,
    DotAttention,
    GeneralAttention,
    LocationAttention,
    MonotonicAttention,
    ScaledDotProductAttention,
)

from .check_attention import QUERY, VALUE

LAYERS = [
    lambda: AdditiveAttention(8, num_heads=2),
    lambda: DotAttention(use_scale=True),
    lambda: ScaledDotProductAttention(num_heads=4),
    lambda: GeneralAttention(dropout=0.1),
    lambda: CosineAttention(),
    lambda: LocationAttention(9),
    lambda: MonotonicAttention(units=8),
]
SOURCE = np.array([[3, 1, 4, 2, 0], [2, 2, 0, 0, 0], [5, 4, 3, 2, 1]], "int32")
TARGET = np.array([[1, 2, 3], [4, 0, 0], [5, 5, 0]], "int32")


@pytest.fixture(scope="module")
def model():
    """A model with all layers in parallel on masked embeddings."""
    keras.utils.set_random_seed(3)  # with a different seed, hard monotonic attention may select no key
    source, target = (keras.Input((None,), dtype="int32") for _ in range(2))
    value, query = (keras.layers.Embedding(7, 8, mask_zero=True)(x) for x in (source, target))
    results = [make()(query, value, return_attention_scores=True) for make in LAYERS]
    contexts = keras.layers.Concatenate()([context for context, _ in results])
    scored = keras.Model([source, target], [contexts, *(weights for _, weights in results)])
    model = keras.Model([source, target], keras.layers.Dense(2)(contexts))
    model.scored = scored
    return model


def test_keras_masks_are_used(model):
    contexts, *weights = model.scored([SOURCE, TARGET])
    assert not contexts.numpy()[TARGET == 0].any() and contexts.numpy()[TARGET > 0].any(axis=-1).all()
    for each in weights:
        each = each.numpy().reshape(3, -1, 3, 5)
        assert not each.transpose(0, 3, 1, 2)[SOURCE == 0].any()
        assert not each.transpose(0, 2, 1, 3)[TARGET == 0].any()
        assert each[0, :, :, :4].any()


@pytest.mark.parametrize("make", [LAYERS[0], LAYERS[3], LAYERS[6]])
def test_padding_of_keys_receives_no_weight(make):
    layer, key = make(), keras.layers.Embedding(7, 8, mask_zero=True)(SOURCE)
    query, value = (np.random.default_rng(n).normal(size=(3, n, 8)).astype("float32") for n in (3, 5))
    context, weights = layer(query, value, key, return_attention_scores=True)
    assert not np.moveaxis(weights.numpy(), -1, 1)[SOURCE == 0].any()
    np.testing.assert_allclose(layer(query, value, key), context, atol=1e-6)
    np.testing.assert_allclose(layer(query, value, key, value_mask=SOURCE > 0), context, atol=1e-6)
    np.testing.assert_allclose(layer(query, value, np.array(key), key_mask=SOURCE > 0), context, atol=1e-6)
    both = layer(query, value, key, value_mask=np.array([[0, 1, 1, 1, 1]] * 3, bool), return_attention_scores=True)[1]
    assert not both.numpy()[..., 0].any() and not np.moveaxis(both.numpy(), -1, 1)[SOURCE == 0].any()


def test_the_keras_mask_of_keys_is_used_in_a_model():
    tokens, query, value = keras.Input((None,), dtype="int32"), keras.Input((None, 8)), keras.Input((None, 8))
    key = keras.layers.Embedding(7, 8, mask_zero=True)(tokens)
    model = keras.Model([tokens, query, value], DotAttention()(query, value, key, return_attention_scores=True)[1])
    weights = model([SOURCE, np.ones((3, 2, 8), "float32"), np.ones((3, 5, 8), "float32")])
    assert not np.moveaxis(weights.numpy(), -1, 1)[SOURCE == 0].any()


def test_masks_may_be_lists():
    layer = DotAttention()
    mask = np.array([[1, 1, 0, 0, 0], [1] * 5, [0, 1, 0, 1, 1]], bool)
    np.testing.assert_array_equal(
        layer(QUERY, VALUE, value_mask=mask.tolist(), query_mask=mask[:, :4].tolist()),
        layer(QUERY, VALUE, value_mask=mask, query_mask=mask[:, :4]),
    )
    with pytest.raises(ValueError, match=r"`value_mask` of shape \[B, S\]. Received: \(2,\)"):
        layer(QUERY, VALUE, value_mask=[True, False])


def test_the_mask_of_the_query_is_propagated():
    query, value = (keras.layers.Embedding(7, 8, mask_zero=True)(x) for x in (TARGET, SOURCE))
    np.testing.assert_array_equal(DotAttention()(query, value)._keras_mask, TARGET > 0)
    context, weights = DotAttention()(query, value, return_attention_scores=True)
    np.testing.assert_array_equal(context._keras_mask, TARGET > 0)
    assert getattr(weights, "_keras_mask", None) is None


def test_more_padding_does_not_change_results(model):
    expected = model.scored([SOURCE, TARGET])[0]
    more = [np.pad(x, [[0, 0], [0, 2]]) for x in (SOURCE, TARGET)]
    np.testing.assert_allclose(model.scored(more)[0][:, :3], expected, atol=1e-6)


@pytest.mark.usefixtures("graphs")
@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_layers_learn(model, compiled):
    twin = keras.models.clone_model(model)
    twin.compile(keras.optimizers.Adam(0.01), "mse", jit_compile=compiled, run_eagerly=not compiled)
    before = [weight.copy() for weight in twin.get_weights()]
    target = np.random.default_rng(0).normal(size=(3, 3, 2))
    history = twin.fit([SOURCE, TARGET], target, epochs=5, verbose=0).history["loss"]
    assert history[-1] < history[0]
    assert all((a != b).any() for a, b in zip(before, twin.get_weights(), strict=True))


def test_saved_and_exported_models_give_equal_results(model, tmp_path):
    expected = model([SOURCE, TARGET])
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded([SOURCE, TARGET]), expected, atol=1e-6)
    model.export(tmp_path / "exported", verbose=False)
    exported = tf.saved_model.load(tmp_path / "exported")
    np.testing.assert_allclose(exported.serve([SOURCE, TARGET]), expected, atol=1e-5)
    np.testing.assert_allclose(exported.serve([SOURCE[:1, :4], TARGET[:1]]), expected[:1], atol=1e-5)


@pytest.mark.usefixtures("graphs")
@pytest.mark.parametrize("make", [LAYERS[0], LAYERS[1], LAYERS[3]])
def test_a_memory_that_is_empty_at_run_time_gives_zeros(make):
    layer = make()

    @tf.function(input_signature=[tf.TensorSpec([None, None, 8])] * 2)
    def both(query, value):
        return layer(query, value), layer(query, value, return_attention_scores=True)

    query, value = np.ones((3, 4, 8), "float32"), np.ones((3, 0, 8), "float32")
    alone, (context, _) = both(query, value)
    assert alone.shape == context.shape == (3, 4, 8)
    assert not alone.numpy().any() and not context.numpy().any()


@pytest.mark.parametrize(
    ("inputs", "masks", "message"),
    [
        ((QUERY[:, 0], VALUE), {}, r"Expected `query` of shape \[B, T, features\]. Received: \(3, 6\)"),
        ((QUERY, VALUE[0]), {}, r"Expected `value` of shape \[B, S, features\]. Received: \(5, 6\)"),
        ((QUERY, VALUE, VALUE[:, :, :, None]), {}, r"`key` of shape \[B, S, features\]. Received: \(3, 5, 6, 1\)"),
        ((QUERY, VALUE[:, :0]), {}, r"memory with at least one step.* Received: `value` of shape \(3, 0, 6\)"),
        ((QUERY, VALUE, VALUE[:, :4]), {}, r"`key` and `value` of the same length. Received: \(3, 4, 6\) and"),
        ((QUERY, VALUE), {"value_mask": np.ones(3, bool)}, r"`value_mask` of shape \[B, S\]. Received: \(3,\)"),
        ((QUERY, VALUE), {"value_mask": np.ones((3, 4), bool)}, r"`value_mask` and `value` of the same length. Rec"),
        ((QUERY, VALUE), {"query_mask": np.ones((3, 4, 5), bool)}, r"`query_mask` of shape \[B, T\]. Rec"),
        ((QUERY, VALUE), {"query_mask": np.ones((3, 5), bool)}, r"`query_mask` and `query` of the same length. Rec"),
        ((QUERY, VALUE, VALUE), {"key_mask": np.ones((3, 4), bool)}, r"`key_mask` and `value` of the same length. Rec"),
        ((QUERY[:1], VALUE), {}, r"`query` and `value` of the same batch size. Received: \(1, 4, 6\) and \(3, 5, 6\)"),
        ((QUERY, VALUE, VALUE[:1]), {}, r"`key` and `value` of the same batch size. Received: \(1, 5, 6\) and"),
        ((QUERY, VALUE), {"value_mask": np.ones((1, 5), bool)}, r"`value_mask` and `value` of the same batch size"),
        ((QUERY, VALUE), {"query_mask": np.ones((1, 4), bool)}, r"`query_mask` and `query` of the same batch size"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("make", [LAYERS[0], LAYERS[5]])
def test_shape_mismatches_raise_an_error(make, inputs, masks, message):
    for scores in (False, True):
        with pytest.raises(ValueError, match=message):
            make()(*inputs, **masks, return_attention_scores=scores)
    symbolic = [keras.KerasTensor(x.shape) for x in inputs]
    with pytest.raises(ValueError, match=message):
        make()(*symbolic, **{name: keras.KerasTensor(mask.shape, "bool") for name, mask in masks.items()})


LIST_LAYERS = {
    "AdditiveAttention": lambda: layers.AdditiveAttention(3),
    "CosineAttention": layers.CosineAttention,
    "DotAttention": layers.DotAttention,
    "GeneralAttention": layers.GeneralAttention,
    "LocationAttention": lambda: layers.LocationAttention(9),
    "MonotonicAttention": lambda: layers.MonotonicAttention(units=3, mode="parallel"),
    "ScaledDotProductAttention": layers.ScaledDotProductAttention,
}


def list_inputs():
    generator = np.random.default_rng(0)
    query, value, key = (generator.normal(size=(2, n, 3)).astype("float32") for n in (2, 4, 4))
    masks = [np.array([[True, True], [True, False]]), np.arange(4) < np.array([[4], [2]]), np.arange(4) > [[0], [0]]]
    return [query, value, key], masks


@pytest.mark.parametrize("name", LIST_LAYERS)
@pytest.mark.parametrize("count", [2, 3])
def test_a_list_of_inputs_as_in_keras(name, count):
    inputs, masks = (values[:count] for values in list_inputs())
    layer = LIST_LAYERS[name]()
    names = ("query_mask", "value_mask", "key_mask")
    for given in (None, masks, [masks[0], None], [None, masks[1]]):
        named = {key: mask for key, mask in zip(names, given or [], strict=False) if mask is not None}
        expected = layer(*inputs, **named, return_attention_scores=True)
        for found in (
            layer(inputs, mask=given, return_attention_scores=True),
            layer(tuple(inputs), given, return_attention_scores=True),
            layer(inputs=inputs, mask=given, return_attention_scores=True),
        ):
            np.testing.assert_array_equal(found[0], expected[0])
            np.testing.assert_array_equal(found[1], expected[1])
    shapes = [x.shape for x in inputs]
    assert layer.compute_output_shape(shapes) == layer.compute_output_shape(*shapes) == (2, 2, 3)
    np.testing.assert_array_equal(layer.compute_mask(inputs, masks), masks[0])
    assert layer.compute_mask(inputs) is None


@pytest.mark.parametrize("count", [2, 3])
def test_dot_products_of_lists_are_those_of_keras(count):
    inputs, masks = (values[:count] for values in list_inputs())
    masks = masks[:2]
    ours, theirs = layers.DotAttention(), keras.layers.Attention()
    found, expected = ours(inputs, mask=masks), theirs(inputs, mask=masks)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert ours.compute_output_shape([x.shape for x in inputs]) == theirs.compute_output_shape(
        [x.shape for x in inputs]
    )


def test_a_list_in_a_functional_model(tmp_path):
    inputs, _ = list_inputs()
    symbols = [keras.Input(x.shape[1:]) for x in inputs[:2]]
    model = keras.Model(symbols, layers.AdditiveAttention(3)([keras.layers.Masking()(x) for x in symbols]))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(inputs[:2]), model(inputs[:2]))


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ([[0]], {}, "Received: a list of 1 inputs"),
        ([[0, 0, 0, 0]], {}, "Received: a list of 4 inputs"),
        ([[0, 0]], {"mask": [None] * 3}, "Received: 3 masks"),
        ([[0, 0], 0], {}, "Expected `mask` to be a list .* Received: array"),
        ([], {}, "no query and no value"),
        ([0], {}, "a single query and no value"),
        ([0, 0], {"mask": [None]}, "a single query and `mask`"),
    ],
)
def test_other_lists_are_refused(arguments, options, message):
    x = np.ones((1, 2, 3), "float32")
    arguments = [[x for _ in each] if isinstance(each, list) else x for each in arguments]
    with pytest.raises(ValueError, match=message):
        layers.DotAttention()(*arguments, **options)
