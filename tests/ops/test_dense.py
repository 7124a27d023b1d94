"""Labels and predictions of unequal length, and shapes that would be broadcast, in every loss and metric."""

import inspect

import numpy as np
import pytest
import tensorflow as tf

from keras_dl import losses, metrics
from keras_dl.ops import ctc
from keras_dl.ops.dense import dense

RNG = np.random.default_rng(0)
LENGTHS = np.array([5, 3])
LOGITS = RNG.normal(size=(2, 5, 4)).astype("float32")
RAGGED = tf.RaggedTensor.from_tensor(LOGITS, lengths=LENGTHS)
STEPS = np.array([[1, 2, 1, 3, 2], [2, 1, 3, 0, 0]])
FRAMES = np.array([[1, 2, 0, 3, 2], [2, 0, 3, -1, -1]])
BLANK_LAST = {"blank_index": 3}  # so that a 0 for padding would be a label

# The labels, with their padding, and functions of (labels, logits, sample_weight).
CTC = np.array([[1, 0, 2], [2, -1, -1]])
STEPWISE = {
    "SequenceCrossEntropy": (losses.SequenceCrossEntropy, STEPS),
    "FramewiseCrossEntropy": (losses.FramewiseCrossEntropy, FRAMES),
    "TokenAccuracy": (metrics.TokenAccuracy, STEPS),
    "ExactMatch": (metrics.ExactMatch, STEPS),
}
CASES = {
    **STEPWISE,
    "CTCLoss": (lambda: losses.CTCLoss(**BLANK_LAST), CTC),
    "LabelErrorRate": (lambda: metrics.LabelErrorRate(**BLANK_LAST), CTC),
    "SequenceAccuracy": (lambda: metrics.SequenceAccuracy(**BLANK_LAST), CTC),
    "WordErrorRate": (lambda: metrics.WordErrorRate([" ", "a", "b"], **BLANK_LAST), CTC),
    "ImpossibleRows": (lambda: metrics.ImpossibleRows(**BLANK_LAST), CTC),
}
WITHOUT_RAGGED_CASE = {"BitsPerCharacter", "NRMSE"}


def value(make, labels, logits, **options):
    function = make()
    if hasattr(function, "update_state"):
        function.update_state(labels, logits, **options)
        return float(function.result())
    return float(function(labels, logits, **options))


def forms(padded, lengths):
    """The same rows, ragged and as a list."""
    rows = [row[:length] for row, length in zip(padded, lengths, strict=True)]
    return tf.RaggedTensor.from_row_lengths(np.concatenate(rows), lengths), [row.tolist() for row in rows]


def test_every_loss_and_metric_has_a_case():
    known = {name for module in (losses, metrics) for name in module.__all__}
    classes = {name for name in known if inspect.isclass(getattr(losses, name, None) or getattr(metrics, name))}
    assert set(CASES) | WITHOUT_RAGGED_CASE == classes


@pytest.mark.parametrize("name", CASES)
def test_labels_of_unequal_length_are_those_with_padding(name):
    make, padded = CASES[name]
    lengths = LENGTHS if name in STEPWISE else [3, 1]
    expected = value(make, padded, LOGITS)
    for labels in forms(padded, lengths):
        assert value(make, labels, LOGITS) == pytest.approx(expected)


@pytest.mark.parametrize("name", CASES)
def test_predictions_of_unequal_length_are_those_of_their_lengths(name):
    make, padded = CASES[name]
    rows = [
        value(make, padded[[row]], LOGITS[[row], :length]) for row, length in enumerate(LENGTHS) if name == "CTCLoss"
    ]
    found = value(make, padded, RAGGED)
    other = value(make, padded, [logits[:length] for logits, length in zip(LOGITS, LENGTHS, strict=True)])
    assert found == pytest.approx(other)
    if rows:
        assert found == pytest.approx(np.mean(rows))


def test_ragged_characters_and_series_count_without_padding():
    characters = value(metrics.BitsPerCharacter, *(forms(x, LENGTHS)[0] for x in (STEPS, LOGITS)))
    weights = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    assert characters == pytest.approx(value(metrics.BitsPerCharacter, STEPS, LOGITS, sample_weight=weights))
    series = [
        tf.ragged.constant(x, ragged_rank=1, inner_shape=(1,))
        for x in ([[[0.0], [20.0]], [[1.0]]], [[[1.0], [19.0]], [[1.0]]])
    ]
    assert value(metrics.NRMSE, *series) == pytest.approx(np.sqrt(2 / 254))


@pytest.mark.parametrize("name", CASES)
def test_one_row_of_labels_for_two_of_predictions_is_an_error(name):
    make, padded = CASES[name]
    with pytest.raises(ValueError, match="Received"):
        value(make, padded[:1], LOGITS)


@pytest.mark.parametrize("name", sorted(STEPWISE.keys() - {"FramewiseCrossEntropy"} | {"BitsPerCharacter"}))
def test_one_step_of_labels_for_five_of_predictions_is_an_error(name):
    make = getattr(losses, name, None) or getattr(metrics, name)
    for labels, logits in ((STEPS[:, :1], LOGITS), (STEPS[0], LOGITS), (STEPS, LOGITS[0])):
        with pytest.raises(ValueError, match="Expected y_true"):
            value(make, labels, logits)


@pytest.mark.parametrize("name", ["CTCLoss", "FramewiseCrossEntropy", "SequenceCrossEntropy", "TokenAccuracy"])
def test_weights_of_other_axes_are_an_error(name):
    make, labels = CASES[name]
    square = LOGITS[:, :2]  # [2, 2] weights would be broadcast to the losses [2]
    per_row = name in ("CTCLoss", "FramewiseCrossEntropy")
    labels = labels[:, :2] if name in STEPWISE else np.array([[1], [2]])
    expected = value(make, labels, square, sample_weight=np.array([1.0, 2.0]))
    assert value(make, labels, square, sample_weight=np.array([[1.0], [2.0]])) == pytest.approx(expected)
    for weight in (np.ones(3), np.ones((2, 2, 1)), *([np.ones((2, 2))] if per_row else [])):
        with pytest.raises(ValueError, match="Expected `sample_weight`.*Received"):
            value(make, labels, square, sample_weight=weight)


def test_nrmse_of_one_variable_takes_every_form():
    truth, forecast, weight = np.arange(6.0), np.arange(6.0) + [1, 0, 2, 0, 0, 1], np.array([1.0, 2, 0, 1, 1, 3])
    expected = value(metrics.NRMSE, truth[:, None], forecast[:, None], sample_weight=weight)
    for y_true, y_pred in ((truth, forecast), (truth, forecast[:, None]), (truth[:, None], forecast)):
        assert value(metrics.NRMSE, y_true, y_pred, sample_weight=weight[:, None]) == pytest.approx(expected)
    steps = value(metrics.NRMSE, truth.reshape(2, 3), forecast.reshape(2, 3, 1))
    assert steps == pytest.approx(value(metrics.NRMSE, truth, forecast))


def test_nrmse_of_other_shapes_is_an_error():
    metric = metrics.NRMSE()
    for y_true, y_pred in (((1, 3, 2), (4, 3, 2)), ((2, 3, 2), (2, 3, 1)), ((2, 3), (2, 3, 2))):
        with pytest.raises(ValueError, match="Expected `y_true`.*Received"):
            metric.update_state(np.ones(y_true), np.ones(y_pred))
    metric.update_state(np.ones((2, 1)), np.ones((2, 1)))
    with pytest.raises(ValueError, match="Expected `y_pred`.*Received"):
        metric.update_state(np.ones((2, 3)), np.ones((2, 3)))


def test_functions_of_labels_take_rows_of_unequal_length():
    ragged, rows = forms(np.array([[1, 2, 2], [3, 0, 0]], "uint8"), [3, 1])
    for labels in (ragged, rows):
        assert ctc.minimum_frames(labels).numpy().tolist() == [4, 1]
        assert float(ctc.label_error_rate(labels, np.array([[1, 2, -1], [3, -1, -1]]))) == pytest.approx(1 / 3)
        np.testing.assert_array_equal(ctc.edit_distance(rows, [[1], [1, 2]]), [2, 2])
    for function in (ctc.minimum_frames, ctc.collapse, lambda x: ctc.edit_distance(x, x)):
        with pytest.raises(ValueError, match="Expected `.*Received"):
            function(np.array([1, 2, 2]))


def test_a_list_of_logits_is_decoded_like_ragged_logits():
    logits = [row[:length] for row, length in zip(LOGITS, LENGTHS, strict=True)]
    for found, expected in zip(ctc.greedy_decode(logits), ctc.greedy_decode(RAGGED), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_rows_of_equal_length_stay_what_they_are():
    for rows in ([[1, 2], [3, 4]], [1, 2], STEPS, []):
        found, lengths = dense(rows)
        assert found is rows and lengths is None


@pytest.mark.parametrize("name", ["CTCLoss", "LabelErrorRate", "SequenceAccuracy", "ImpossibleRows"])
def test_blank_that_is_no_class_is_an_error(name):
    make = getattr(losses, name, None) or getattr(metrics, name)
    for blank in (-1, 1.5):
        with pytest.raises(ValueError, match="`blank_index` must be an integer of at least 0. Received"):
            make(blank_index=blank)
    with pytest.raises(ValueError, match="`blank_index` must be a class from 0 to 3. Received: 9"):
        value(lambda: make(blank_index=9), CTC, LOGITS)
