"""Directions of metrics, inferred from whole words."""

import importlib
import inspect

import keras
import pytest

import keras_dl.metrics
from keras_dl.directions import infer_direction
from keras_dl.errors import UserError
from keras_dl.losses import CTCLoss, SequenceCrossEntropy
from keras_dl.metrics import translation_scores

KERAS_MAX = {
    *("Accuracy", "BinaryAccuracy", "CategoricalAccuracy", "SparseCategoricalAccuracy", "TopKCategoricalAccuracy"),
    *("SparseTopKCategoricalAccuracy", "AUC", "Precision", "Recall", "PrecisionAtRecall", "RecallAtPrecision"),
    *("SensitivityAtSpecificity", "SpecificityAtSensitivity", "TruePositives", "TrueNegatives", "F1Score"),
    *("FBetaScore", "R2Score", "BinaryIoU", "IoU", "MeanIoU", "OneHotIoU", "OneHotMeanIoU", "CosineSimilarity"),
    *("PearsonCorrelation", "ConcordanceCorrelation"),
}
KERAS_MIN = {
    *("FalsePositives", "FalseNegatives", "Hinge", "SquaredHinge", "CategoricalHinge", "KLDivergence", "Poisson"),
    *("BinaryCrossentropy", "CategoricalCrossentropy", "SparseCategoricalCrossentropy", "LogCoshError"),
    *("MeanAbsoluteError", "MeanAbsolutePercentageError", "MeanSquaredError", "MeanSquaredLogarithmicError"),
    "RootMeanSquaredError",
}
KERAS_UNKNOWN = {"Metric", "Mean", "MeanMetricWrapper", "Sum"}
# Negative, or the complement of a measure that others maximize under the same name.
LOSSES_UNKNOWN = {"circle", "dice", "tversky"}


def test_every_metric_of_keras_is_known_under_its_name_and_class():
    classes = {name: value for name, value in vars(keras.metrics).items() if inspect.isclass(value)}
    assert set(classes) == KERAS_MAX | KERAS_MIN | KERAS_UNKNOWN
    for name, kind in classes.items():
        names = [name, keras.src.utils.naming.to_snake_case(name)]
        if name in KERAS_UNKNOWN:
            for each in names:
                with pytest.raises(UserError, match="cannot infer the direction"):
                    infer_direction(each)
        else:
            expected = "max" if name in KERAS_MAX else "min"
            assert {infer_direction(f"{prefix}{each}{end}") for each in names for prefix in ("", "val_", "val_pitch_")
                    for end in ("", "_1")} == {expected}, kind  # fmt: skip


def test_every_loss_of_keras_is_minimized_or_unknown():
    for name, value in vars(keras.losses).items():
        if not inspect.isfunction(value) or name in ("get", "serialize", "deserialize", "cosine_similarity"):
            continue
        if name in LOSSES_UNKNOWN:
            with pytest.raises(UserError):
                infer_direction(name)
        else:
            assert infer_direction(name) == "min", name


def test_every_metric_and_loss_of_this_library_is_known():
    best = {"exact_match": "max", "sequence_accuracy": "max", "token_accuracy": "max", "bits_per_character": "min"}
    best |= {"impossible_rows": "min", "label_error_rate": "min", "nrmse": "min", "word_error_rate": "min"}
    classes = [getattr(keras_dl.metrics, name) for name in dir(keras_dl.metrics)]
    classes = [each for each in classes if inspect.isclass(each) and issubclass(each, keras.metrics.Metric)]
    names = {inspect.signature(each).parameters["name"].default for each in classes}
    assert names == set(best)
    assert {name: infer_direction(f"val_{name}") for name in names} == best
    for name in translation_scores(["a b c d"], ["a b c d"]):
        assert infer_direction(name) == "max"
    for name in (CTCLoss().name, SequenceCrossEntropy().name):
        assert infer_direction(name) == "min"


@pytest.mark.parametrize(
    "name",
    ["loss", "val_step_loss", "val_closed_loop_nrmse", "brier_score", "val_equal_error_rate", "val_mae", "mse_1",
     "dice_loss", "auc_loss", "recall_error", "log_loss", "negative_log_likelihood", "false_positive_rate", "val_wer",
     "val_digits_bits_per_character", "perplexity", "epoch_seconds", "top_5_error", "valMSE", "error (%)",
     "false_accept_rate", "falseRejectionRate", "val_false_alarm_rate", "false_discovery_rate", "ece"],
)  # fmt: skip
def test_errors_are_minimized(name):
    assert infer_direction(name) == "min"


@pytest.mark.parametrize(
    "name",
    ["val_accuracy", "acc", "acc (%)", "acc5", "top5_accuracy", "accuracy_top_5", "accuracy@5", "val_hits@3", "auc",
     "val_recall@10", "mAP@[.5:.95]", "f1_macro", "f1:macro", "macro_f1", "val_bleu_score", "rouge_l", "rouge-1",
     "true_positive_rate", "dice_score", "log_likelihood", "r2", "mean_iou", "ndcg@10", "chrF", "chrF++"],
)  # fmt: skip
def test_successes_are_maximized(name):
    assert infer_direction(name) == "max"


@pytest.mark.parametrize(
    "name",
    ["val_gain", "score", "spread", "false_start", "account", "accident_count", "place", "faceacc", "inaccuracy",
     "lossless", "maprange", "accuracy_gap", "accuracy_std", "accuracy_drop", "neg_mean_squared_error", "1-accuracy",
     "one_minus_accuracy", "inverse_accuracy", "non_accuracy", "error_recall", "loss_accuracy", "fpr_at_tpr", "rate",
     "", "@", "val_"],
)  # fmt: skip
def test_anything_else_must_be_stated(name):
    with pytest.raises(UserError, match="cannot infer the direction of .*: set direction = 'min' or 'max', or write"):
        infer_direction(name)


@pytest.mark.parametrize("name", ["digits_ctc", "letters_to_phones", "mackey_glass", "number_words", "python_source",
                                  "sentiment", "sequence_memory", "spoken_digits", "translation"])  # fmt: skip
def test_no_pipeline_has_to_state_its_direction(name):
    module = importlib.import_module(f"pipelines.{name}")
    own = [value for value in vars(module).values() if getattr(value, "__module__", None) == module.__name__]
    (pipeline,) = [value for value in own if hasattr(value, "objective")]
    assert pipeline.direction is None and pipeline().goal.direction in ("min", "max")
