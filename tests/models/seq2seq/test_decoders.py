"""Tests of the decoders: single steps, padding, training, precision and scheduled sampling."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_dl.layers import AdditiveAttention, AttentionPooling
from keras_dl.models.seq2seq import Encoded, RecurrentDecoder, ScheduledSampling, TransformerDecoder
from keras_dl.ops.special_ids import START

from .parts import DECODERS, TARGET, shared_model, small_model

X = {
    "source": np.array([[4, 5, 6, 7], [8, 9, 0, 0], [10, 0, 0, 0]]),
    "target": np.array([[2, 4, 5, 6, 7], [2, 7, 6, 0, 0], [2, 5, 0, 0, 0]]),
}


def steps(model, source, count, choose):
    """Returns logits and alignments of single steps; `choose(time, logits)` returns the tokens to read."""
    encoded = Encoded(*model.encoder(source))
    prepared = model.decoder.prepare(encoded)
    state, logits, outputs = model.decoder.start(encoded, prepared), None, []
    for time in range(count):
        logits, state, alignment = model.decoder.step(tf.constant(choose(time, logits)), time, state, prepared)
        outputs.append((logits, alignment))
    return outputs


@pytest.mark.parametrize("kind", list(DECODERS))
def test_single_steps_and_padding_give_the_logits_of_the_whole_target(kind):
    model = shared_model(kind)
    whole = model(X).numpy()
    outputs = steps(model, X["source"], 5, lambda time, _: X["target"][:, time])
    np.testing.assert_allclose(np.stack([logits for logits, _ in outputs], axis=1), whole, atol=2e-5)
    assert np.std(whole, axis=0).max() > 0.1  # the source matters
    for _, alignment in outputs:
        if alignment is not None:
            np.testing.assert_allclose(np.sum(alignment, axis=1), 1, atol=1e-5)
            assert (np.array(alignment)[X["source"] == 0] == 0).all()
        assert (alignment is None) == (kind in ("cho", "sutskever"))
    np.testing.assert_allclose(model({**X, "target": X["target"][:, :3]}), whole[:, :3], atol=2e-5)
    np.testing.assert_allclose(model({**X, "source": np.pad(X["source"], [[0, 0], [0, 2]])}), whole, atol=2e-5)


@pytest.mark.parametrize(
    "kind",
    ["additive", "cho", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("general_deep", "transformer"))],
)
def test_learns_saves_and_loads(kind, tmp_path):
    model = small_model(kind)
    # Eagerly: the graph of `fit` is tested with the schedule below.
    model.compile(keras.optimizers.Adam(0.1), keras.losses.SparseCategoricalCrossentropy(True), run_eagerly=True)
    labels = np.concatenate([X["target"][:, 1:], [[3], [0], [0]]], axis=1)
    losses = model.fit(X, labels, epochs=5, verbose=0).history["loss"]
    assert losses[-1] < losses[0] / 2
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(X), model(X))
    assert loaded.decoder.get_config().keys() == model.decoder.get_config().keys()
    for part in ("encoder", "decoder"):
        one, other = (dict(getattr(each, part).get_config(), attention=None) for each in (loaded, model))
        assert one == other


@pytest.mark.usefixtures("graphs")
@pytest.mark.parametrize(
    "kind", ["additive", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("cho", "transformer"))]
)
def test_xla(kind):
    model = small_model(kind, depth=1)
    compiled = tf.function(lambda x: model(x, training=False), jit_compile=True)
    np.testing.assert_allclose(compiled({key: tf.constant(ids) for key, ids in X.items()}), model(X), atol=1e-4)


@pytest.mark.parametrize("kind", ["additive", "transformer", "cho"])
def test_mixed_precision(kind):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        half = small_model(kind)
    finally:
        keras.config.set_dtype_policy("float32")
    assert half(X).dtype == "float32"
    logits, expected = (keras.ops.log_softmax(each(X)).numpy() for each in (half, shared_model(kind)))
    assert np.abs(logits - expected).mean() < 0.1


@pytest.mark.parametrize("kind", ["additive", "transformer", "cho"])
def test_scheduled_sampling(kind):
    model = small_model(kind, scheduled_sampling=True, seed=3)
    forced, decoder = model(X, training=False).numpy(), model.decoder
    assert float(decoder.sampling_probability) == 0
    np.testing.assert_allclose(model(X, training=True), forced, atol=2e-5)
    decoder.sampling_probability.assign(1.0)
    np.testing.assert_allclose(model(X, training=False), forced, atol=1e-6)  # no sampling outside of training

    if kind == "transformer":
        predicted = np.argmax(forced, axis=-1)  # the second pass reads the predictions of the first
        predicted = np.where(X["target"] == 0, 0, np.concatenate([X["target"][:, :1], predicted[:, :-1]], axis=1))
        expected = model({**X, "target": predicted}, training=False).numpy()
    else:

        def free(time, logits):
            return [START] * 3 if time == 0 else np.where(X["target"][:, time] == 0, 0, np.argmax(logits, axis=-1))

        expected = np.stack([logits for logits, _ in steps(model, X["source"], 5, free)], axis=1)
    np.testing.assert_allclose(model(X, training=True), expected, atol=2e-5)
    decoder.sampling_probability.assign(0.5)
    assert np.abs(model(X, training=True) - model(X, training=True)).max() > 1e-3  # each call draws again


@pytest.mark.usefixtures("graphs")
def test_the_schedule_follows_the_optimizer():
    model = small_model("additive", scheduled_sampling=True)
    model.compile(keras.optimizers.Adam(0.01), keras.losses.SparseCategoricalCrossentropy(True), jit_compile=False)
    model.optimizer.build(model.trainable_variables)  # otherwise Keras traces the training step twice
    schedule, labels = ScheduledSampling("linear", rate=0.1, least=0.5), X["target"]
    found = model.fit(X, labels, epochs=7, batch_size=3, verbose=0, callbacks=[schedule]).history
    np.testing.assert_allclose(found["sampling_probability"], [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.5], atol=1e-6)


def test_input_feeding_widens_the_input_of_the_cells():
    decoders = [
        RecurrentDecoder(TARGET.size, 8, attention=AdditiveAttention(6), input_feeding=feeding)
        for feeding in (False, True)
    ]
    for decoder in decoders:
        decoder.build((None, None), (None, None, 8), (None, None), (None, 16))
    assert [decoder.stack.kernel.shape[0] for decoder in decoders] == [64, 64 + 8]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cell": "rnn"}, "`cell` must be one of lstm, gru, peephole"),
        ({"context": "once"}, "`context` must be one of every_step, first_state. Received: 'once'"),
        ({"query": "sideways"}, "`query` must be one of new, previous. Received: 'sideways'"),
        ({"attention": "additive"}, "`attention` must be an attention layer of keras_dl.layers.* Received: 'additive'"),
        ({"attention": AdditiveAttention}, "`attention` must be an attention layer of keras_dl.layers"),
        ({"attention": keras.layers.Attention()}, "`attention` must be an attention layer of keras_dl.layers"),
        ({"attention": AttentionPooling(4)}, "`attention` must be an attention layer of keras_dl.layers"),
        ({"embedding": -1}, "`embedding` must be an integer of at least 1. Received: -1"),
    ],
)
def test_invalid_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        RecurrentDecoder(9, 8, **arguments)


def test_transformer_memory_must_have_units_features():
    ids, memory = keras.Input((None,), dtype="int32"), keras.Input((None, 16))
    expected = "requires a memory with 8 features, its `units`. Received: 16 features"
    with pytest.raises(ValueError, match=expected):
        TransformerDecoder(9, 8, heads=2)(ids, memory, keras.Input((None,), dtype="bool"), keras.Input((16,)))
