"""translation_scores: BLEU and chrF against the formulas, over a corpus."""

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
    """Papineni et al. 2002, of texts whose tokens stand between blanks."""
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
    """Popovic 2015: the F-score, recall twice as important, of the mean precision and recall of character n-grams."""
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


def test_scores_are_those_of_the_formulas_over_the_corpus():
    found = translation_scores(HYPOTHESES, REFERENCES)
    assert found == {
        "bleu": pytest.approx(textbook_bleu(HYPOTHESES, REFERENCES)),
        "chrf": pytest.approx(textbook_chrf(HYPOTHESES, REFERENCES)),
    }
    single = [translation_scores([h], [r])["bleu"] for h, r in zip(HYPOTHESES, REFERENCES, strict=True)]
    assert abs(np.mean(single) - found["bleu"]) > 1


def test_perfect_and_hopeless():
    assert translation_scores(REFERENCES, REFERENCES) == pytest.approx({"bleu": 100, "chrf": 100})
    found = translation_scores(["xyz"] * 3, REFERENCES)
    assert found["bleu"] < 1 and found["chrf"] < 5


def test_texts_may_be_bytes_and_tensors():
    expected = translation_scores(["über das Meer fuhr er", "b c d e"], ["über das Meer fuhr sie", "b c d e"])
    texts = tf.constant(["über das Meer fuhr er", "b c d e"]).numpy()
    assert translation_scores(texts, ["über das Meer fuhr sie".encode(), b"b c d e"]) == expected


@pytest.mark.parametrize(("hypotheses", "references"), [([], []), (["a"], ["a", "b"]), (["a"], [])])
def test_what_does_not_fit_is_refused(hypotheses, references):
    message = f"Received: {len(hypotheses)} hypotheses, {len(references)} references"
    with pytest.raises(ValueError, match=message):
        translation_scores(hypotheses, references)


@pytest.mark.parametrize(
    ("hypotheses", "references", "message"),
    [
        (["a b"], [["a b"]], r"`references` to be a sequence of texts. Received in it: \['a b'\]"),
        ([None], ["a"], "`hypotheses` to be a sequence of texts. Received in it: None"),
        ("a b", "a b", "`hypotheses` to be a sequence of texts. Received: 'a b'"),
        (None, ["a"], "`hypotheses` to be a sequence of texts. Received: None"),
        (["a"], b"a", "`references` to be a sequence of texts. Received: b'a'"),
    ],
)
def test_what_are_no_texts_is_refused(hypotheses, references, message):
    with pytest.raises(ValueError, match=message):
        translation_scores(hypotheses, references)
