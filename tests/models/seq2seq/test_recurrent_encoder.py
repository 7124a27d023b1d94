"""Tests of the encoders."""

import keras
import numpy as np
import pytest

from keras_dl.models.seq2seq import RecurrentEncoder, TransformerEncoder

IDS = np.array([[4, 5, 6, 7], [8, 9, 0, 0], [10, 0, 0, 0]])
ENCODERS = {
    "lstm": lambda **options: RecurrentEncoder(12, 5, **options),
    "gru_deep": lambda **options: RecurrentEncoder(12, 5, cell="gru", depth=2, **options),
    "peephole_one_way": lambda **options: RecurrentEncoder(12, 5, cell="peephole", bidirectional=False, **options),
    "lstm_reversed": lambda **options: RecurrentEncoder(12, 5, depth=2, bidirectional=False, reverse=True, **options),
    "transformer": lambda **options: TransformerEncoder(12, 8, heads=2, **options),
}


@pytest.mark.parametrize("kind", list(ENCODERS))
def test_padding_does_not_change_the_result(kind):
    encoder = ENCODERS[kind](dtype="float64")  # float32 rounds differently for other shapes
    all_rows = encoder(IDS)
    wider = encoder(np.pad(IDS, [[0, 0], [0, 3]]))
    np.testing.assert_array_equal(all_rows.mask, IDS != 0)
    for row, length in enumerate([4, 2, 1]):
        alone = encoder(IDS[row : row + 1, :length])
        for other in (all_rows, wider):
            np.testing.assert_allclose(other.memory[row, :length], alone.memory[0], atol=1e-12)
            np.testing.assert_allclose(other.summary[row], alone.summary[0], atol=1e-12)


@pytest.mark.parametrize("kind", list(ENCODERS))
def test_shapes_and_configuration(kind):
    encoder = ENCODERS[kind]()
    found, spec = encoder(IDS), encoder(keras.KerasTensor((None, None), "int32"))
    assert spec.memory.shape[-1] == found.memory.shape[-1] and spec.summary.shape[-1] == found.summary.shape[-1]
    assert spec.mask.dtype == "bool"
    twin = type(encoder).from_config(encoder.get_config())
    twin.build((None, None))
    twin.set_weights(encoder.get_weights())
    for one, other in zip(encoder(IDS), twin(IDS), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("kind", ["lstm", "lstm_reversed", "peephole_one_way"])
def test_an_empty_source_is_read_as_one_padding_symbol(kind):
    """cuDNN rejects rows without a valid step."""
    encoder = ENCODERS[kind]()
    batch, alone = encoder(np.array([[4, 5, 6], [0, 0, 0]])), encoder(np.array([[0]]))
    assert np.abs(alone.summary).max() > 0 and not np.any(batch.mask[1])
    np.testing.assert_allclose(batch.memory[1, :1], alone.memory[0], atol=1e-6)
    np.testing.assert_allclose(batch.summary[1], alone.summary[0], atol=1e-6)


def test_reversed_encoders_do_not_use_cudnn():
    """cuDNN rejects padding at the start of a row."""
    for cell in ("lstm", "gru"):
        encoder = RecurrentEncoder(12, 5, cell=cell, depth=2, bidirectional=False, reverse=True)
        assert [layer.use_cudnn for layer in encoder.layers] == [False, False]
        assert RecurrentEncoder(12, 5, cell=cell, bidirectional=False).layers[0].use_cudnn


def test_a_reversed_encoder_reads_the_source_from_its_end():
    """It equals a forward encoder of the reversed source, but its memory has the order of the source."""
    forward = RecurrentEncoder(12, 5, bidirectional=False)
    backward = RecurrentEncoder(12, 5, bidirectional=False, reverse=True)
    for encoder in (forward, backward):
        encoder.build((None, None))
    backward.set_weights(forward.get_weights())
    expected, found = forward(IDS[:1, ::-1]), backward(IDS[:1])
    np.testing.assert_allclose(found.memory, expected.memory[:, ::-1], atol=1e-6)
    np.testing.assert_allclose(found.summary, expected.summary, atol=1e-6)
    assert np.abs(found.memory - forward(IDS[:1]).memory).max() > 0.01


def test_the_summary_is_the_final_states_of_both_directions():
    encoder = RecurrentEncoder(12, 5, cell="gru")
    memory, _, summary = encoder(IDS)
    np.testing.assert_allclose(summary[0], np.concatenate([memory[0, -1, :5], memory[0, 0, 5:]]), atol=1e-6)
    np.testing.assert_allclose(summary[1], np.concatenate([memory[1, 1, :5], memory[1, 0, 5:]]), atol=1e-6)


@pytest.mark.parametrize("kind", list(ENCODERS))
def test_mixed_precision(kind):
    encoder = ENCODERS[kind]()
    expected = encoder(IDS)
    half = type(encoder).from_config({**encoder.get_config(), "dtype": "mixed_bfloat16"})
    half.build((None, None))
    half.set_weights(encoder.get_weights())
    found = half(IDS)
    assert keras.backend.standardize_dtype(found.memory.dtype) == "bfloat16"
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(np.array(one, "float32"), np.array(other, "float32"), atol=0.06)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cell": "rnn"}, "`cell` must be one of lstm, gru, peephole. Received: 'rnn'"),
        ({"units": 0}, "`units` must be an integer of at least 1. Received: 0"),
        ({"depth": 1.5}, "`depth` must be an integer of at least 1. Received: 1.5"),
        ({"reverse": True}, "`reverse` requires bidirectional=False"),
    ],
)
def test_invalid_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        RecurrentEncoder(**{"vocabulary": 12, "units": 5, **arguments})


def test_transformer_heads_must_divide_units():
    with pytest.raises(ValueError, match="`units` must be even and a multiple of `heads`. Received: 10 and 4"):
        TransformerEncoder(12, 10, heads=4)
