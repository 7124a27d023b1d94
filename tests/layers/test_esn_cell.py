"""Tests of ESNCell: weights from the seed, a step in NumPy, and its arguments."""

import json

import keras
import numpy as np
import pytest

from keras_dl.layers import ESNCell
from keras_dl.ops.reservoir import DENSE_SPEEDUP


def built(*arguments, features=3, **options):
    cell = ESNCell(*arguments, **{"seed": 1, **options})
    cell.build((None, features))
    return cell


def weights(cell):
    return {weight.name: np.array(weight.value) for weight in cell.weights}


def test_few_links_are_lists_and_many_links_a_matrix():
    listed = weights(built(10 * DENSE_SPEEDUP, 10))
    assert {name: value.dtype for name, value in listed.items()} == {
        "recurrent_sources": np.int32,
        "recurrent_values": np.float32,
        "kernel": np.float32,
        "bias": np.float32,
    }
    assert (
        list(weights(built(10 * DENSE_SPEEDUP - 1, 10)))
        == list(weights(built(20, None)))
        == ["recurrent_kernel", "kernel", "bias"]
    )
    matrix = np.zeros((10 * DENSE_SPEEDUP,) * 2)
    matrix[listed["recurrent_sources"], np.arange(len(matrix))] = listed["recurrent_values"]
    assert np.abs(np.linalg.eigvals(matrix)).max() == pytest.approx(0.9, abs=1e-6)


def test_weights_are_not_trainable():
    cell = built(20)
    assert cell.trainable_weights == []
    assert len(cell.non_trainable_weights) == 3


def test_weights_depend_on_the_seed_and_each_argument_changes_one_matrix():
    base = weights(built(20, feedback=1, bias_scaling=1.0))
    for options, changed in (
        ({}, set()),
        ({"fan_in": 5}, {"recurrent_kernel"}),
        ({"spectral_radius": 0.5}, {"recurrent_kernel"}),
        ({"input_scaling": 0.5}, {"kernel"}),
        ({"feedback_scaling": 0.5}, {"kernel"}),
        ({"bias_scaling": 0.5}, {"bias"}),
        ({"leak_rate": 0.5, "noise_stddev": 0.1, "activation": "relu"}, set()),
        ({"seed": 2}, {"recurrent_kernel", "kernel", "bias"}),
    ):
        other = weights(built(20, **{"feedback": 1, "bias_scaling": 1.0, **options}))
        assert {name for name in base if (base[name] != other[name]).any()} == changed
    scaled = weights(built(20, feedback=1, feedback_scaling=0.5))["kernel"]
    np.testing.assert_allclose(scaled, base["kernel"] * [[1], [1], [0.5]], rtol=1e-6)


def test_the_global_seed_has_no_effect():
    cells = []
    for seed in (1, 2):
        keras.utils.set_random_seed(seed)
        cells.append(weights(built(20)))
    assert all((cells[0][name] == cells[1][name]).all() for name in cells[0])


def test_a_random_seed_is_stored_in_the_config():
    cell = ESNCell(20)
    assert cell.seed != ESNCell(20).seed
    twin = ESNCell.from_config(json.loads(json.dumps(cell.get_config())))
    cell.build((None, 2))
    twin.build((None, 2))
    for name, value in weights(cell).items():
        np.testing.assert_array_equal(weights(twin)[name], value)


def test_matches_tensorflow_addons():
    # N = 3, weights 0.5, W scaled to 0.3, rows of 1, 2, 3 in 4 features, state 0.3, no activation.
    cell = built(3, None, topology="given", activation=None, features=4)
    cell.set_weights([np.full((3, 3), 0.3), np.full((4, 3), 0.5), np.full(3, 0.5)])
    inputs = np.repeat([[1.0], [2.0], [3.0]], 4, axis=1)
    output, (state,) = cell(inputs, [np.full((3, 3), 0.3)])
    np.testing.assert_allclose(output, np.repeat([[2.77], [4.77], [6.77]], 3, axis=1), rtol=1e-6)
    np.testing.assert_array_equal(output, state)


def test_a_step_with_leak():
    cell = built(2, None, topology="given", leak_rate=[0.25, 1.0], features=1, dtype="float64")
    cell.set_weights([np.array([[0.0, 1.0], [0.5, 0.0]]), np.array([[1.0, 2.0]]), np.array([0.1, 0.2])])
    output, _ = cell(np.array([[0.3]]), [np.array([[0.4, -0.2]])])
    expected = [0.75 * 0.4 + 0.25 * np.tanh(0.3 - 0.1 + 0.1), np.tanh(0.6 + 0.4 + 0.2)]
    np.testing.assert_allclose(output, [expected], atol=1e-15)


def test_noise_is_added_only_in_training():
    cell = built(20, noise_stddev=0.1, activation=None, spectral_radius=0.0)
    inputs, state = np.zeros((500, 3)), [np.zeros((500, 20))]
    assert np.abs(cell(inputs, state)[0]).max() == 0
    noise = np.array(cell(inputs, state, training=True)[0])
    assert noise.std() == pytest.approx(0.1, rel=0.05) and abs(noise.mean()) < 0.01
    assert (noise != np.array(cell(inputs, state, training=True)[0])).any()


def test_numpy_numbers_are_accepted():
    options = {
        "fan_in": np.int64(4),
        "spectral_radius": np.float32(0.5),
        "leak_rate": np.float64(0.5),
        "input_scaling": np.array([1.0, 2.0]),
        "bias_scaling": np.float32(1),
        "noise_stddev": np.float32(0),
        "feedback": np.int32(0),
        "feedback_scaling": np.float32(1),
        "seed": np.int64(3),
    }
    config = json.loads(json.dumps(ESNCell(np.int64(20), **options).get_config()))
    assert ESNCell.from_config(config).get_config() == config
    assert ESNCell(20, leak_rate=np.linspace(0.1, 1, 20)).get_config()["leak_rate"][-1] == 1.0


def test_density_is_a_fraction_of_the_units():
    assert ESNCell(200, density=0.1).fan_in == 20
    assert ESNCell(5, density=0.01).fan_in == 1
    assert ESNCell(5, density=np.float32(1)).fan_in == 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"units": 0}, "`units` must be an integer of at least 1. Received: 0"),
        ({"units": 2.5}, "`units` must be an integer of at least 1. Received: 2.5"),
        ({"units": True}, "`units` must be an integer of at least 1. Received: True"),
        ({"fan_in": 0}, "`fan_in` must be None .* from 1 to units=20. Received: 0"),
        ({"fan_in": 21}, "from 1 to units=20. Received: 21"),
        ({"fan_in": 2.0}, "Received: 2.0"),
        ({"density": 0.0}, "`density` must be"),
        ({"density": 1.1}, "`density` must be"),
        ({"spectral_radius": -0.1}, "`spectral_radius` must be a number of at least 0. Received: -0.1"),
        ({"spectral_radius": np.nan}, "`spectral_radius` must be"),
        ({"spectral_radius": np.inf}, "`spectral_radius` must be"),
        ({"leak_rate": 0.0}, "`leak_rate` must be a number in .0, 1. or 20 of them. Received: 0.0"),
        ({"leak_rate": 1.5}, "`leak_rate` must be"),
        ({"leak_rate": [0.5, 0.5]}, "`leak_rate` must be"),
        ({"leak_rate": np.nan}, "`leak_rate` must be"),
        ({"noise_stddev": -1.0}, "`noise_stddev` must be"),
        ({"topology": "ring"}, "`topology` must be 'random', 'cycle' or 'given'. Received: 'ring'"),
        ({"feedback": -1}, "`feedback` must be an integer of at least 0. Received: -1"),
        ({"feedback": True}, "`feedback` must be an integer of at least 0. Received: True"),
    ],
)
def test_invalid_arguments_raise_an_error(arguments, message):
    with pytest.raises(ValueError, match=message):
        ESNCell(**{"units": 20, **arguments})


def test_an_invalid_number_of_features_raises_an_error():
    with pytest.raises(ValueError, match="at least 2 features, the last 2 .* Received: inputs of shape"):
        built(20, feedback=2, features=1)
    with pytest.raises(ValueError, match="`input_scaling` must be a number or one for each of 3 features"):
        built(20, input_scaling=[1.0, 2.0])
