"""The pipeline of spoken digits: data, signature and pictures of an untrained model, and one run end to end."""

from pathlib import Path

import keras
import matplotlib.figure
import matplotlib.pyplot as plt
import numpy as np
import pytest
import tensorflow as tf
from scipy.io import wavfile

from keras_dl.errors import UserError
from keras_dl.pipeline import load_pipeline
from keras_dl.space import space

FILE = Path(__file__).parents[2] / "pipelines" / "spoken_digits.py"
VALUES = {"filters": 16, "units": 64, "batch_size": 16}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Clips of 0.1 s by two speakers, with a different tone for each digit and speaker."""
    folder = tmp_path_factory.mktemp("clips")
    time = np.arange(800) / 8000
    for digit in range(10):
        for number, speaker in enumerate(["ann", "bob"]):
            for index in range(7):
                sound = (5000 + 500 * index) * np.sin(2 * np.pi * (300 + 100 * digit + 1500 * number) * time)
                wavfile.write(folder / f"{digit}_{speaker}_{index}.wav", 8000, sound.astype(np.int16))
    return str(folder)


@pytest.fixture(scope="module")
def pipeline(folder):
    pipeline = load_pipeline(FILE)
    pipeline.source = folder
    return pipeline


@pytest.fixture(scope="module")
def splits(pipeline):
    return pipeline.data(space(pipeline, VALUES))


@pytest.fixture(scope="module")
def listener(pipeline):
    """A model with random weights, large enough that its output is not empty."""
    keras.utils.set_random_seed(0)
    model = pipeline.build(space(pipeline, VALUES | {"dropout": 0.0}))
    generator = np.random.default_rng(0)
    model.set_weights([generator.normal(0, 0.3, weight.shape) for weight in model.get_weights()])
    return model


@pytest.fixture(scope="module")
def listen(pipeline, listener):
    """listen(waveform, length): runs the exported function; returns its outputs as arrays."""
    function, inputs = pipeline.signatures(listener)["serving_default"]
    assert [(spec.name, spec.shape.as_list(), spec.dtype.name) for spec in inputs] == [
        ("waveform", [None, None], "float32"),
        ("length", [None], "int32"),
    ]
    graph = tf.function(function, input_signature=inputs)
    return lambda waveform, length: {
        key: value.numpy()
        for key, value in graph(tf.constant(waveform, tf.float32), tf.constant(length, tf.int32)).items()
    }


@pytest.fixture(scope="module")
def recordings(splits):
    inputs, _ = next(iter(splits.test))
    return inputs["waveform"].numpy(), inputs["length"].numpy()


def test_the_space_and_the_objective(pipeline):
    hp = space(pipeline)
    assert pipeline.name == "spoken_digits" and pipeline.goal.test_metric == ("label_error_rate", "min")
    assert {"batch_size", "units", "recurrent", "causal", "dropout", "learning_rate"} <= set(hp.values)
    assert hp.values["holdout_speaker"] == "none"


def test_the_held_out_speaker_is_a_fixed_hyperparameter(pipeline):
    hp = space(pipeline, VALUES | {"holdout_speaker": "bob"})
    assert hp.get("holdout_speaker") == "bob"
    assert type(next(entry for entry in hp.space if entry.name == "holdout_speaker")).__name__ == "Fixed"
    with pytest.raises(UserError, match="no speaker 'eve' in .* Available: ann, bob"):
        space(pipeline, {"holdout_speaker": "eve"})
    splits = [pipeline.data(each) for each in (space(pipeline, VALUES), hp)]
    texts = [{pipeline.answer(row) for row in each.test.unbatch().as_numpy_iterator()} for each in splits]
    assert texts[0] != texts[1]


def test_data_are_waveforms_with_lengths_and_labels_above_the_blank(splits):
    for split, count in zip(splits, (40, 40, 200), strict=True):
        seen = 0
        for inputs, labels in split:
            assert (inputs["waveform"].dtype, inputs["length"].dtype, labels.dtype) == (tf.float32, tf.int32, tf.int64)
            assert tf.reduce_max(tf.abs(inputs["waveform"])) <= 1
            assert tf.reduce_max(inputs["length"]) == inputs["waveform"].shape[1]
            assert (labels[:, 0].numpy() > 0).all() and labels.numpy().max() <= 10
            seen += len(labels)
        assert seen == count


def test_training_on_a_batch_reduces_its_loss(pipeline, splits):
    model = pipeline.build(space(pipeline, VALUES | {"dropout": 0.0}))
    inputs, labels = next(iter(splits.train))
    model.optimizer.build(model.trainable_variables)  # otherwise Keras traces the training step twice
    losses = [model.train_on_batch(inputs, labels, return_dict=True)["loss"] for _ in range(6)]
    assert losses[-1] < losses[0]


def test_outputs_per_digit_are_consistent_and_padded(listen, recordings):
    waveform, length = recordings
    outputs = listen(waveform, length)
    assert set(outputs) == {"text", "score", "digit", "start", "end", "confidence"}
    texts = [text.decode() for text in outputs["text"]]
    longest = max(map(len, texts))
    assert longest > 3 and len(set(texts)) > len(texts) // 2
    for row, text in enumerate(texts):
        assert [digit.decode() for digit in outputs["digit"][row]] == [*text, *[""] * (longest - len(text))]
        start, end, confidence = (outputs[name][row] for name in ("start", "end", "confidence"))
        seconds = length[row] / 8000
        here = slice(len(text))
        assert (0 <= start[here]).all() and (start[here] < end[here]).all() and (end[here] <= seconds + 1e-6).all()
        assert (np.diff(start[here]) > 0).all() and (end[here][:-1] <= start[here][1:] + 1e-6).all()
        assert ((confidence[here] > 0) & (confidence[here] <= 1)).all()
        assert (
            (start[len(text) :] == -1).all() and (end[len(text) :] == -1).all() and (confidence[len(text) :] == 0).all()
        )


@pytest.mark.parametrize("junk", [0.0, 1e5, np.nan])
def test_samples_beyond_the_length_are_ignored(junk, listen, recordings):
    waveform, length = recordings
    outputs = listen(waveform, length)
    inside = np.arange(waveform.shape[1] + 4321) < length[:, None]
    padded = listen(np.where(inside, np.pad(waveform, [[0, 0], [0, 4321]]), junk), length)
    for key, value in outputs.items():
        if value.dtype.kind == "O":
            np.testing.assert_array_equal(padded[key], value)
        else:
            np.testing.assert_allclose(padded[key], value, atol=1e-3)
    alone = listen(waveform[:1, : length[0]], length[:1])
    assert alone["text"][0] == outputs["text"][0]


def test_times_are_those_of_the_frames(listener, pipeline, listen):
    """A model that always outputs a 2 in frames 10 and 11 and a 5 in frame 30."""
    output = listener.get_layer("ctc_output")
    logits = np.full((1, 50, 11), -20.0, "float32")
    logits[0, :, 0] = 0
    logits[0, [10, 11, 30]] = np.eye(11)[[3, 3, 6]] * 40
    spikes = keras.Model(listener.input, listener.output * 0 + logits[:, :50])
    spikes.get_layer = lambda name: {"ctc_output": output, "log_mel": listener.get_layer("log_mel")}[name]
    function, _ = pipeline.signatures(spikes)["serving_default"]
    results = function(tf.zeros([1, 16_000]), tf.constant([16_000]))
    assert results["text"].numpy()[0] == b"25"
    np.testing.assert_allclose(results["start"][0], [0.38, 1.18], atol=1e-5)  # frame n is centred on 40 n ms
    np.testing.assert_allclose(results["end"][0], [0.46, 1.22], atol=1e-5)
    np.testing.assert_allclose(results["confidence"][0], [1, 1], atol=1e-4)


@pytest.mark.parametrize("samples", [0, 1, 100])
def test_scores_of_very_short_recordings_are_finite(samples, listen):
    outputs = listen(np.zeros((2, samples)), [samples, 0])
    assert np.isfinite(outputs["score"]).all() and outputs["text"][1] == b"" and outputs["score"][1] == 0


@pytest.mark.parametrize("length", [-1, 101])
def test_an_invalid_length_is_an_error(length, listen):
    with pytest.raises(tf.errors.InvalidArgumentError, match="length must be from 0 to the number of samples"):
        listen(np.zeros((1, 100)), [length])


def test_request_and_answer(pipeline, splits, listen):
    inputs, labels = next(iter(splits.test))
    example = ({name: array[0].numpy() for name, array in inputs.items()}, labels[0].numpy())
    request = pipeline.request(example)
    assert request["waveform"].shape == (1, example[0]["length"]) and request["length"].shape == (1,)
    assert len(listen(**request)["text"]) == 1
    assert pipeline.answer(({}, np.array([1, 10, 3, 0, 0]))) == "092"


def test_pictures(pipeline, listener, splits):
    (name, figure), *rest = pipeline.pictures(listener, splits).items()
    assert name == "heard" and not rest and isinstance(figure, matplotlib.figure.Figure)
    assert len(figure.axes) == 6
    assert all(len(axis.get_title(loc="left").split(" heard as ")[0]) > 3 for axis in figure.axes[::2])
    plt.close(figure)


def test_the_model_can_be_causal_and_use_another_layer(pipeline):
    model = pipeline.build(space(pipeline, VALUES | {"causal": True, "recurrent": "lstm"}))
    assert "LSTM" in {type(layer).__name__ for layer in model.layers}


@pytest.mark.slow
def test_end_to_end(run_end_to_end, folder):
    artifacts, _ = run_end_to_end(FILE, "--data", folder, "--jit", "off", filters=16, units=64, batch_size=64)
    assert "heard.png" in artifacts
