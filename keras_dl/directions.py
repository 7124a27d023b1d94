"""The direction of a metric, from its name."""

import re

from keras_dl.errors import UserError

_MIN = {
    *("loss", "error", "errors", "hinge", "crossentropy", "cross entropy", "divergence", "kld", "poisson", "deviance"),
    *("huber", "logcosh", "log cosh", "mse", "mae", "mape", "msle", "rmse", "nrmse", "rmsle", "smape", "mase", "bce"),
    *("nll", "log likelihood loss", "negative log likelihood", "neg log likelihood", "brier", "crps", "perplexity"),
    *("bits", "ctc", "wer", "cer", "ler", "ter", "eer", "edit distance", "levenshtein", "fid", "seconds"),
    *("false positive", "false positives", "fpr", "false negative", "false negatives", "fnr", "impossible rows"),
    *("false accept", "false acceptance", "false reject", "false rejection", "false alarm", "false discovery", "ece"),
}
_MAX = {
    *("accuracy", "acc", "precision", "recall", "sensitivity", "specificity", "auc", "auroc", "auprc", "map", "m ap"),
    *("f1", "fbeta", "f beta", "iou", "io u", "jaccard", "dice score", "dice coefficient", "dice coef", "kappa", "mcc"),
    *("r2", "correlation", "pearson", "spearman", "cosine similarity", "log likelihood", "psnr", "ssim", "hits", "mrr"),
    *("ndcg", "dcg", "exact match", "bleu", "sacrebleu", "chrf", "chr f", "rouge", "rouge l", "meteor"),
    *("true positive", "true positives", "tpr", "true negative", "true negatives", "tnr"),
}
_DIRECTIONS = {**dict.fromkeys(_MIN, "min"), **dict.fromkeys(_MAX, "max")}
# Words after the metric that do not change its direction, as in `f1_score`, `accuracy_top5` and `bits_per_character`.
_NEUTRAL = {"score", "rate", "mean", "average", "macro", "micro", "weighted", "percent", "top", "at", "k", "per"}
_NEGATIONS = {"neg", "negative", "negated", "inverse", "inverted", "minus", "non", "not", "false"}


def infer_direction(name: str) -> str:
    """Infers `"min"` or `"max"` from the name of a metric.

    The whole words at the end of the name decide: known metrics, including all those of Keras and keras_dl whose
    direction is clear. UserError is raised for other names, for a negation (`neg_accuracy`), and for words that
    contradict each other; anything that ends in loss or error is minimized.

    >>> infer_direction("val_digits_accuracy"), infer_direction("brier_score"), infer_direction("auc_loss")
    ('max', 'min', 'min')
    """
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name.removeprefix("val_"))
    words = [word for word in re.split(r"[\W_]+", words.lower()) if word]
    end = len(words)
    while end and not (found := _metric_before(words, end)) and _is_neutral(words, end):
        end -= 1
    if end and found:
        before = words[: end - found.count(" ") - 1]
        direction = _DIRECTIONS[found]
        contradicts = any(_DIRECTIONS.get(word, direction) != direction for word in before)
        negated = _NEGATIONS.intersection(before) or re.match(r"(val_)?1\s*-", name)
        if not negated and (not contradicts or found in ("loss", "error")):
            return direction
    shown = f"'{name}'" if set(name) & set(",:") else name
    raise UserError(
        f"cannot infer the direction of {name!r}: set direction = 'min' or 'max', or write {shown}:min or {shown}:max"
    )


def _metric_before(words, end):
    """Returns the longest known metric of whole words that ends at a position; None if there is none."""
    phrases = (" ".join(words[start:end]) for start in range(max(end - 4, 0), end))
    known = next((phrase for phrase in phrases if phrase in _DIRECTIONS), None)
    plain = words[end - 1].rstrip("0123456789")  # acc5
    return known or (plain if plain in _DIRECTIONS else None)


def _is_neutral(words, end):
    word = words[end - 1]
    return word in _NEUTRAL or re.fullmatch(r"(top|k)?\d+", word) or words[end - 2 : end - 1] == ["per"]
