"""translation_scores: BLEU and chrF, compared to the formulas over a corpus."""

import collections
import math

import numpy as np
import pytest
import tensorflow as tf

from keras_dl.metrics import translation_scores

REFERENCES = ["the cat sat on the mat .", "there is a small red house by the sea .", "she reads a book every day ."]
HYPOTHESES = ["the cat sat on a mat .", "there is a red house by the sea .", "she reads a book ."]


def grams(items, n):
    return collections.Counter(tuple(items[i : i + n]) for i in range(len(items) - n + 1))


def textbook_bleu(hypotheses, references):
    """Computes BLEU by Papineni et al. 2002 for texts with tokens separated by spaces."""
    logs = []
    for n in range(1, 5):
        matches = total = 0
        for hypothesis, reference in zip(hypotheses, references, strict=True):
            said, right = grams(hypothesis.split(), n), grams(reference.split(), n)
            matches += sum(min(count, right[gram]) for gram, count in said.items())
            total += said.total()
        logs.append(math.log(matches / total))
    said, right = (sum(len(text.split()) for text in texts) for texts in (hypotheses, references))
    return 100 * math.exp(min(0, 1 - right / said) + sum(logs) / 4)


def textbook_chrf(hypotheses, references):
    """Computes chrF by Popovic 2015: F2 of the mean precision and recall of character n-grams."""
    precisions, recalls = [], []
    for n in range(1, 7):
        matches = said_total = right_total = 0
        for hypothesis, reference in zip(hypotheses, references, strict=True):
            said, right = (grams(text.replace(" ", ""), n) for text in (hypothesis, reference))
            matches += sum(min(count, right[gram]) for gram, count in said.items())
            said_total, right_total = said_total + said.total(), right_total + right.total()
        precisions.append(matches / said_total)
        recalls.append(matches / right_total)
    precision, recall = sum(precisions) / 6, sum(recalls) / 6
    return 100 * 5 * precision * recall / (4 * precision + recall)


def test_scores_match_the_formulas_over_the_corpus():
    found = translation_scores(HYPOTHESES, REFERENCES)
    assert found == {
        "bleu": pytest.approx(textbook_bleu(HYPOTHESES, REFERENCES)),
        "chrf": pytest.approx(textbook_chrf(HYPOTHESES, REFERENCES)),
    }
    single = [translation_scores([h], [r])["bleu"] for h, r in zip(HYPOTHESES, REFERENCES, strict=True)]
    assert abs(np.mean(single) - found["bleu"]) > 1


def test_perfect_and_worst_scores():
    assert translation_scores(REFERENCES, REFERENCES) == pytest.approx({"bleu": 100, "chrf": 100})
    found = translation_scores(["xyz"] * 3, REFERENCES)
    assert found["bleu"] < 1 and found["chrf"] < 5


def test_texts_may_be_bytes_and_tensors():
    expected = translation_scores(["über das Meer fuhr er", "b c d e"], ["über das Meer fuhr sie", "b c d e"])
    texts = tf.constant(["über das Meer fuhr er", "b c d e"]).numpy()
    assert translation_scores(texts, ["über das Meer fuhr sie".encode(), b"b c d e"]) == expected


@pytest.mark.parametrize(("hypotheses", "references"), [([], []), (["a"], ["a", "b"]), (["a"], [])])
def test_mismatched_texts_raise(hypotheses, references):
    message = f"Received: {len(hypotheses)} hypotheses, {len(references)} references"
    with pytest.raises(ValueError, match=message):
        translation_scores(hypotheses, references)


@pytest.mark.parametrize(
    ("hypotheses", "references", "message"),
    [
        (["a b"], [["a b"]], r"`references` to be a sequence of texts. Received an item: \['a b'\]"),
        ([None], ["a"], "`hypotheses` to be a sequence of texts. Received an item: None"),
        ("a b", "a b", "`hypotheses` to be a sequence of texts. Received: 'a b'"),
        (None, ["a"], "`hypotheses` to be a sequence of texts. Received: None"),
        (["a"], b"a", "`references` to be a sequence of texts. Received: b'a'"),
    ],
)
def test_arguments_that_are_not_texts_raise(hypotheses, references, message):
    with pytest.raises(ValueError, match=message):
        translation_scores(hypotheses, references)
