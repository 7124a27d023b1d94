"""A reused model gives bit-identical results to a fresh one; a model with another graph is not reused."""

import hypothesis
import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as st
from keras import layers, losses, optimizers
from keras.optimizers import schedules

from keras_dl.layers import ESN, CTCOutput, PeepholeLSTM
from keras_dl.losses import CTCLoss
from keras_dl.metrics import LabelErrorRate
from keras_dl.models import EchoStateNetwork
from keras_dl.training.reuse import CompiledModels

generator = np.random.default_rng(0)
SGD, Adam, AdamW = optimizers.SGD, optimizers.Adam, optimizers.AdamW
ROWS = generator.normal(size=(20, 5, 4)).astype("float32")
CLASSES = np.eye(3, dtype="float32")[generator.integers(0, 3, 20)]


def data(batch_size=8):
    return tf.data.Dataset.from_tensor_slices((ROWS, CLASSES)).batch(batch_size)


def build(optimizer=None, loss="mse", layer=None, units=4, **options):
    """A small classifier of sequences."""
    rows = x = keras.Input((None, 4))
    x = layers.Dense(units, **options)(x)
    x = layer(x) if layer else x
    outputs = layers.Dense(3, activation="softmax")(layers.GlobalAveragePooling1D()(x))
    model = keras.Model(rows, outputs)
    model.compile(optimizer or optimizers.SGD(0.1), loss, metrics=["accuracy"], jit_compile=False)
    return model


def train(take, make, examples=None, seed=3):
    """Returns the history, the variables of model and optimizer, and the model."""
    keras.utils.set_random_seed(seed)
    model = take(make())
    examples = data() if examples is None else examples
    history = model.fit(examples, validation_data=examples, epochs=2, verbose=0, shuffle=False).history
    variables = [np.asarray(variable.value) for variable in (*model.variables, *model.optimizer.variables)]
    return history, variables, model


def same(one, other):
    return one[0] == other[0] and all(map(np.array_equal, one[1], other[1])) and len(one[1]) == len(other[1])


def check_reuse(first, second, examples=None, plain=True):
    """Trains `first`, then `second` with its model; compares with a fresh model and, if `plain`, with plain Keras."""
    models = CompiledModels()
    before = train(models.take, first, examples)
    traces = before[2].train_step.traces, before[2].test_step.traces
    after = train(models.take, second, examples, seed=4)
    assert after[2] is before[2]
    assert models.reused == 1
    assert (after[2].train_step.traces, after[2].test_step.traces) == traces
    fresh = train(CompiledModels().take, second, examples, seed=4)
    assert fresh[2] is not after[2]
    assert same(after, fresh)
    assert not same(after, before)
    if plain:
        assert same(after, train(lambda model: model, second, examples, seed=4))


def all_rates(rate, seed):
    """A model with most of the kinds of numbers that may differ."""
    schedule = schedules.CosineDecay(rate, round(20 * rate), warmup_target=2 * rate, warmup_steps=2)
    optimizer = AdamW(schedule, weight_decay=rate, clipnorm=rate, beta_1=0.9 - rate, epsilon=rate / 1e5)
    dropouts = [layers.Dropout(rate, seed=seed), layers.SpatialDropout1D(rate), layers.GaussianNoise(rate)]
    initializer = keras.initializers.RandomNormal(stddev=rate)
    return build(optimizer, layer=keras.Sequential(dropouts), kernel_initializer=initializer)


def test_a_reused_model_equals_a_fresh_one():
    check_reuse(lambda: all_rates(0.1, 1), lambda: all_rates(0.17, 2))


def test_another_batch_size_needs_no_other_trace():
    models = CompiledModels()
    model = train(models.take, build)[2]
    traces = model.train_step.traces, model.test_step.traces
    reused = train(models.take, build, data(5))
    assert reused[2] is model
    assert (model.train_step.traces, model.test_step.traces) == traces
    assert same(reused, train(lambda model: model, build, data(5)))


PAIRS = {
    "learning rate": [lambda rate=rate: build(SGD(rate)) for rate in (0.1, 0.3)],
    "weight decay, norm": [
        lambda a=a: build(AdamW(a, weight_decay=a, clipnorm=a, beta_1=0.9 - a, epsilon=a / 1e5)) for a in (0.1, 0.03)
    ],
    "momentum, value": [lambda a=a: build(SGD(0.1, momentum=a, clipvalue=a / 30)) for a in (0.1, 0.2)],
    "global norm": [lambda a=a: build(Adam(a, global_clipnorm=a)) for a in (0.1, 0.02)],
    "cosine": [lambda a=a: build(Adam(schedules.CosineDecay(a, round(20 * a), 0.1))) for a in (0.1, 0.2)],
    "warmup": [
        lambda n=n: build(SGD(schedules.CosineDecay(0.01, n, warmup_target=0.1 * n, warmup_steps=n))) for n in (2, 3)
    ],
    "dropout": [lambda rate=rate: build(layer=layers.Dropout(rate)) for rate in (0.1, 0.37)],
    "dropout's seed": [lambda seed=seed: build(layer=layers.Dropout(0.2, seed=seed)) for seed in (1, 2)],
    "spatial": [lambda rate=rate: build(layer=layers.SpatialDropout1D(rate)) for rate in (0.1, 0.3)],
    "noise": [lambda rate=rate: build(layer=layers.GaussianNoise(rate)) for rate in (0.1, 0.3)],
    "initial scale": [
        lambda a=a: build(kernel_initializer=keras.initializers.RandomNormal(stddev=a)) for a in (0.1, 0.3)
    ],
    "gru": [
        lambda a=a: build(layer=layers.GRU(3, return_sequences=True, dropout=a, recurrent_dropout=a / 2))
        for a in (0.1, 0.3)
    ],
    "peephole": [
        lambda a=a: build(layer=PeepholeLSTM(3, return_sequences=True, dropout=a, recurrent_dropout=a / 2))
        for a in (0.1, 0.3)
    ],
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", PAIRS)
def test_each_kind_of_number(kind):
    check_reuse(*PAIRS[kind])


@pytest.mark.slow
def test_label_smoothing():
    # TensorFlow divides constants and variables differently: plain Keras differs by one bit.
    def make(smoothing):
        loss = losses.CategoricalCrossentropy(label_smoothing=smoothing)
        return build(loss=loss)

    check_reuse(lambda: make(0.1), lambda: make(0.07), plain=False)


@pytest.mark.slow
def test_ctc():
    labels = np.tile([[1, 2]], (20, 1))
    examples = tf.data.Dataset.from_tensor_slices((ROWS, labels)).batch(8)

    def make(rate, smoothing):
        rows = keras.Input((None, 4))
        x = layers.Bidirectional(layers.LSTM(3, return_sequences=True, dropout=rate))(layers.Masking()(rows))
        model = keras.Model(rows, CTCOutput("abc")(x))
        loss = CTCLoss(label_smoothing=smoothing)
        model.compile(Adam(schedules.CosineDecay(rate, 9)), loss, metrics=[LabelErrorRate()], jit_compile=False)
        return model

    check_reuse(lambda: make(0.1, 0.1), lambda: make(0.2, 0.3), examples)


@pytest.mark.slow
def test_compiled_by_xla():
    def make(rate):
        model = build(layer=layers.Dropout(rate))
        model.compile(AdamW(rate, clipnorm=rate), "mse", jit_compile=True)
        return model

    check_reuse(lambda: make(0.1), lambda: make(0.3), plain=False)


@pytest.mark.slow
@hypothesis.settings(max_examples=8, deadline=None, derandomize=True)
@hypothesis.given(
    st.lists(
        st.fixed_dictionaries(
            {
                "rate": st.sampled_from([0, 0.0, 0.25, 0.5, 1 / 3]),
                "clip": st.sampled_from([None, 1e-3, 0.5]),
                "decay": st.sampled_from([None, 0.0, 0.1]),
                "units": st.sampled_from([2, 3]),
                "seed": st.integers(0, 3),
                "batch_size": st.sampled_from([4, 7, 20]),
            }
        ),
        min_size=3,
        max_size=3,
    )
)
def test_any_sequence_of_trials_equals_fresh_models(trials):
    models = CompiledModels()
    for trial in trials:

        def make(trial=trial):
            optimizer = Adam(0.1, clipnorm=trial["clip"], weight_decay=trial["decay"])
            return build(optimizer, layer=layers.Dropout(trial["rate"]), units=trial["units"])

        reused, fresh = (
            train(take, make, data(trial["batch_size"]), trial["seed"]) for take in (models.take, CompiledModels().take)
        )
        assert same(reused, fresh)


def test_models_with_different_custom_steps_are_not_shared():
    def stepping(scale):
        model = build()
        step = model.train_step
        model.train_step = lambda batch: step((scale * batch[0], batch[1]))
        return model

    models = CompiledModels()
    one, other = stepping(2.0), stepping(3.0)
    assert models.take(one) is one
    assert models.take(other) is other
    assert models.take(stepping(3.0)) is other


class Stop(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        self.model.layers[1].kernel.assign(np.full((4, 4), np.nan))
        raise KeyboardInterrupt


def test_an_interrupted_training_has_no_effect_on_the_next():
    models = CompiledModels()
    model = models.take(build(Adam(0.1)))
    with pytest.raises(KeyboardInterrupt):
        model.fit(data(), callbacks=[Stop()], verbose=0)
    again = train(models.take, lambda: build(Adam(0.1)))
    assert again[2] is model
    assert same(again, train(CompiledModels().take, lambda: build(Adam(0.1))))


class Change(keras.callbacks.Callback):
    """Calls a function with the model when training starts."""

    def __init__(self, change):
        super().__init__()
        self.change = change

    def on_train_begin(self, logs=None):
        self.change(self.model)


@pytest.mark.parametrize("name", ["rate", "supports_masking"])
def test_a_model_changed_by_a_callback_is_not_reused(name):
    models = CompiledModels()
    model = models.take(build(layer=layers.Dropout(0.1)))
    model.fit(data(), callbacks=[Change(lambda model: setattr(model.layers[2], name, 0.5))], verbose=0)
    other = build(layer=layers.Dropout(0.1))
    assert models.take(other) is other


@pytest.mark.parametrize("draw", [lambda x: x * tf.random.uniform(()), lambda x: x * np.random.uniform()])
def test_a_model_with_unrepeatable_random_numbers_is_not_reused(draw):
    models = CompiledModels()
    model = models.take(build(layer=layers.Lambda(draw)))
    model.fit(data(), verbose=0)
    other = build(layer=layers.Lambda(draw))
    assert models.take(other) is other


def test_a_number_that_affects_the_trace():
    models = CompiledModels()
    model = train(models.take, lambda: build(SGD(0.1, clipnorm=1.0)))[2]
    assert models.take(build(SGD(0.1, clipnorm=2.0))) is model
    unclipped = build(SGD(0.1, clipnorm=0.0))  # the same structure, but Keras omits the clipping
    assert models.take(unclipped) is unclipped


def test_the_most_recently_used_models_are_cached():
    models = CompiledModels(most=2)
    one, two, three = (models.take(build(units=units)) for units in (1, 2, 3))
    assert models.take(build(units=3)) is three
    assert models.take(build(units=2)) is two
    assert models.take(build(units=1)) is not one
    assert models.take(build(units=2)) is two
    assert models.take(build(units=3)) is not three


def test_a_reused_model_shows_and_saves_its_current_numbers(tmp_path):
    models = CompiledModels()
    model = models.take(build(AdamW(0.1, weight_decay=0.1), layer=layers.Dropout(0.1)))
    model.fit(data(), verbose=0)
    assert models.take(build(AdamW(0.2, weight_decay=0.2), layer=layers.Dropout(0.2))) is model
    assert model.layers[2].get_config()["rate"] == 0.2
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.layers[2].rate == 0.2
    assert loaded.optimizer.weight_decay == 0.2
    np.testing.assert_array_equal(loaded.predict(ROWS, verbose=0), model.predict(ROWS, verbose=0))


def test_models_with_a_custom_fit_are_not_shared():
    def esn():
        model = EchoStateNetwork(ESN(10), units=4, alpha=1e-3)
        model.compile(loss="mse")
        return model

    models = CompiledModels()
    one, other = esn(), esn()
    assert models.take(one) is one
    assert models.take(other) is other


def test_models_that_are_not_built_are_not_shared():
    def unbuilt():
        model = keras.Sequential([layers.Dense(1)])
        model.compile(SGD(0.1), "mse")
        return model

    models = CompiledModels()
    one, other = unbuilt(), unbuilt()
    assert models.take(one) is one
    assert models.take(other) is other
