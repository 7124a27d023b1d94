"""The memory pipeline: its tasks, its layers, their comparison, and one run end to end."""

from pathlib import Path

import keras
import matplotlib.pyplot as plt
import numpy as np
import pytest
import tensorflow as tf

from keras_dl.data.builders.sequence_memory import TASKS
from keras_dl.errors import UserError
from keras_dl.pipeline import load_pipeline
from keras_dl.space import space

FILE = Path(__file__).parents[2] / "pipelines" / "sequence_memory.py"
LAYERS = ["SimpleRNN", "IdentityRNN", "GRU", "LSTM", "PeepholeLSTM", "ESN"]
OURS = ("PeepholeLSTM", "ESN")


def pipeline_of(task=None):
    pipeline = load_pipeline(FILE)
    pipeline.source = task
    return pipeline


@pytest.fixture(scope="module")
def pipeline():
    return pipeline_of()


def shorter(splits):
    return type(splits)(splits.train.take(2), splits.validation, splits.test, splits.features)


def test_the_space_and_the_objective(pipeline):
    hp = space(pipeline)
    assert pipeline.goal.test_metric == ("step_loss", "min")
    assert set(hp.values) == {"layer", "units", "learning_rate", "batch_size", "dropout", "compared"}
    assert next(entry for entry in hp.space if entry.name == "layer").values == LAYERS
    with pytest.raises(UserError, match="layer=RNN is invalid: expected layer one of SimpleRNN, "):
        space(pipeline, {"layer": "RNN"})


# The other tasks, of symbols, have the same model.
@pytest.mark.parametrize(
    "task", [task if task in ("adding", "copy") else pytest.param(task, marks=pytest.mark.slow) for task in TASKS]
)
def test_the_model_fits_each_task(task):
    pipeline = pipeline_of(task)
    hp = space(pipeline)
    model = pipeline.build(hp)
    inputs, targets, weights = next(iter(pipeline.data(hp).train))
    assert model(inputs).shape == targets.shape == (*weights.shape, TASKS[task].outputs)
    results = model.test_on_batch(inputs, targets, weights, return_dict=True)
    assert set(results) == {"loss", "step_loss", "step_error"}
    outputs, weights = model(inputs).numpy(), weights.numpy() > 0
    wrong = (np.abs(outputs - targets) > (0.04 if task == "adding" else 0.5)).any(axis=-1)
    assert results["step_error"] == pytest.approx(wrong[weights].mean(), abs=1e-6)
    if task == "adding":
        squares = np.square(outputs - targets)[weights]
        assert results["step_loss"] == pytest.approx(squares.mean(), rel=1e-4)
    else:
        assert outputs.min() >= 0 and outputs.max() <= 1


def test_an_unknown_task_is_an_error():
    with pytest.raises(UserError, match="task must be one of adding, .* Received: parity"):
        space(pipeline_of("parity"))


# Keras' own layers are trained the same way.
@pytest.mark.parametrize(
    "name", [name if name in OURS else pytest.param(name, marks=pytest.mark.slow) for name in LAYERS]
)
def test_each_layer_is_causal_and_learns(name, pipeline):
    keras.utils.set_random_seed(0)
    model = pipeline.build(space(pipeline, {"layer": name, "units": 16}))
    assert model.name == name
    inputs, targets, weights = next(iter(pipeline.data(space(pipeline)).train))
    before = model(inputs).numpy()
    np.testing.assert_allclose(model(inputs[:, :7]), before[:, :7], atol=1e-5)
    model.optimizer.build(model.trainable_variables)  # otherwise Keras traces the training step twice
    losses = [model.train_on_batch(inputs, targets, weights, return_dict=True)["loss"] for _ in range(5)]
    assert losses[-1] < losses[0]
    assert np.abs(model(inputs).numpy() - before).max() > 1e-3


def test_only_the_output_layer_of_the_esn_is_trained(pipeline):
    model = pipeline.build(space(pipeline, {"layer": "ESN"}))
    assert [weight.path for weight in model.trainable_weights] == ["said/kernel", "said/bias"]


def test_the_identity_rnn_starts_as_the_identity(pipeline):
    model = pipeline.build(space(pipeline, {"layer": "IdentityRNN", "units": 16}))
    np.testing.assert_array_equal(model.layers[1].get_weights()[1], np.eye(16))
    assert model.layers[1].activation is keras.activations.relu
    assert model.optimizer.clipnorm == 1.0


def test_the_comparison_counts_correct_sequences():
    """A model that is correct for one delay has a share of 1 there; the others, hardly trained, have none."""
    pipeline, compared = pipeline_of("copy"), ["SimpleRNN", "ESN"]
    pipeline.epochs = 1
    splits = shorter(pipeline.data(space(pipeline, {"compared": ",".join(compared)})))

    class Oracle(keras.Model):
        """Repeats the patterns of 14 steps ago, which is correct for a delay of 10."""

        def call(self, inputs, training=None):
            back = 4 + 10
            return tf.pad(inputs[:, :-back, :3], [[0, 0], [back, 0], [0, 0]])

    oracle = Oracle(name="oracle")
    oracle(np.zeros((1, 20, 4), "float32"))
    results = pipeline.report(oracle, splits)
    assert list(results) == [f"right_{name}" for name in compared]
    assert all(0 <= value < 0.5 for value in results.values())
    pictures = pipeline.pictures(oracle, splits)
    assert set(pictures) == {"layers", "layers_table"}
    title, header, first, *others = pictures["layers_table"].splitlines()
    assert title == "copy: correct sequences by delay; trained with delay 1 to 10"
    assert header.split() == ["trained", "1", "5", "10", "20", "40"]
    assert first.split() == ["best", "trial:", "oracle", "0", "0.00", "0.00", "1.00", "0.00", "0.00"]
    assert [line.split()[0] for line in others] == compared
    left, right = pictures["layers"].axes
    assert [label.get_text() for label in left.get_yticklabels()] == ["best trial: oracle", *compared]
    assert len(right.lines) == len(compared)
    pictures["layers"].canvas.draw()
    plt.close(pictures["layers"])


def test_the_answer_is_the_target(pipeline):
    example = next(pipeline.data(space(pipeline)).test.unbatch().as_numpy_iterator())
    request = pipeline.request(example)
    (array,) = request.values()
    assert array.shape == (1, *example[0].shape)
    assert pipeline.answer(example) == str(example[1])


def test_end_to_end(run_end_to_end):
    values = {"layer": "SimpleRNN", "units": 16, "batch_size": 64, "compared": "SimpleRNN"}
    artifacts, printed = run_end_to_end(FILE, **values)
    assert {"layers.png", "layers_table.txt"} < artifacts
    assert "\nbest trial: SimpleRNN " in printed and "\nSimpleRNN " in printed and "\nLSTM " not in printed


@pytest.mark.slow
def test_counting_and_addition_are_learned():
    errors = {}
    for task, layer in (("anbn", "LSTM"), ("anbn", "PeepholeLSTM"), ("binary_addition", "GRU")):
        pipeline = pipeline_of(task)
        hp = space(pipeline, {"layer": layer})
        keras.utils.set_random_seed(0)
        splits, model = pipeline.data(hp), pipeline.build(hp)
        model.fit(splits.train, epochs=pipeline.epochs, verbose=0)
        errors[task, layer] = model.evaluate(splits.validation, verbose=0, return_dict=True)["step_error"]
    assert max(errors.values()) < 0.05, errors
