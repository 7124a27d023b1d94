"""Everything that counts works with `keras.config.set_floatx("float64")`."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_dl import layers, losses, metrics, models
from keras_dl.models import seq2seq
from keras_dl.ops.ctc import ctc_loss, minimum_frames

LABELS, X = np.array([[1, 2, 2, 0]]), np.random.default_rng(0).normal(size=(1, 4, 3))


@pytest.fixture(autouse=True, params=["float64", "float16"])
def floatx(request):
    keras.config.set_floatx(request.param)
    yield request.param
    keras.config.set_floatx("float32")


def test_frames_are_counted():
    assert minimum_frames(LABELS).numpy().tolist() == [4]
    assert layers.CTCOutput(2).minimum_frames(LABELS).numpy().tolist() == [4]
    assert np.isfinite(ctc_loss(LABELS, X, impossible="raise"))


@pytest.mark.parametrize("name", metrics.__all__)
def test_every_metric(name):
    if name == "translation_scores":
        return
    metric = getattr(metrics, name)(*[[" ", "a"]] if name == "WordErrorRate" else [])
    metric.update_state(X + 1 if name == "NRMSE" else LABELS, X)
    metric.update_state(X + 1 if name == "NRMSE" else LABELS, tf.constant(X, "float16"))
    assert np.isfinite(float(metric.result()))


@pytest.mark.parametrize(
    "loss", [losses.CTCLoss(0, label_smoothing=0.1), *map(losses.FramewiseCrossEntropy, ("all", "ramp"))]
)
def test_every_loss(loss):
    assert np.isfinite(float(loss(LABELS, X)))
    assert np.isfinite(float(losses.SequenceCrossEntropy(0.1)(LABELS, X)))


@pytest.mark.parametrize("floatx", ["float64"], indirect=True)
@pytest.mark.parametrize("kind", ["recurrent", "transformer"])
def test_models_of_sequences(kind):
    source = target = layers.Tokenizer(list("abcd"))
    if kind == "transformer":
        encoder = seq2seq.TransformerEncoder(source.size, 8, depth=1)
        decoder = seq2seq.TransformerDecoder(target.size, 8, depth=1)
    else:
        encoder = seq2seq.RecurrentEncoder(source.size, 4, embedding=4)
        decoder = seq2seq.RecurrentDecoder(target.size, 4, 4, attention=layers.AdditiveAttention(4))
    model = seq2seq.Seq2Seq(source, target, encoder, decoder)
    for options in ({}, {"beam_width": 2}):
        assert model.decode(["ab", "cab"], max_length=3, **options).tokens.shape[0] == 2


@pytest.mark.parametrize("floatx", ["float64"], indirect=True)
def test_other_models():
    wave = np.sin(np.arange(60) / 5)
    assert models.language_model(9, 4, 4)(np.array([[1, 2]])).shape == (1, 2, 9)
    assert models.speech_recogniser(["a"], filters=2, units=2)(
        {"waveform": np.ones((1, 800)), "length": np.array([800])}
    ).shape == (1, 3, 2)
    assert models.recogniser(10, ["a"], filters=2, units=2)(np.ones((1, 8, 10))).shape == (1, 4, 2)
    model = models.EchoStateNetwork(layers.ESN(20, 2, seed=1), 1, alpha=1e-3, washout=5, squared_states=True)
    model.fit(wave, verbose=0)
    assert model.forecast(wave, 3).shape == (1, 3, 1)
    trained = models.train_forecaster(wave, units=2, window=10)
    assert models.free_run(trained, wave[None, :, None], 3).shape == (1, 3, 1)
