import functools
import itertools

import numpy as np
import pytest
import tensorflow as tf

from keras_dl.ops.ctc import Lexicon, beam_search_decode
from keras_dl.ops.ngram import kneser_ney

from .textbook import log_softmax, prefix_beam_search

LABELS = [" ", "a", "b", "c"]
WORDS = ["a", "ab", "b", "ba", "cab", "ca"]
SENTENCES = [["a", "ab"], ["b", "ba", "a"], ["cab", "a", "ab", "b"], ["a", "b"], ["ba", "ab"]]


class Textbook:
    """The definition of the score; a prefix is a tuple of labels, with "|" between words without separator."""

    def __init__(self, model, of_words, weight, bonus, words=None, separator=" "):
        self.model, self.of_words, self.weight, self.bonus = model, of_words, weight, bonus
        self.words, self.separator = words, separator
        self.reward = functools.cache(self._reward)
        self.grams = {}
        for entries in model.entries if model else []:
            self.grams |= {
                tuple(gram): scores
                for gram, *scores in zip(entries.grams.tolist(), entries.log_probability, entries.backoff, strict=True)
            }

    def log_probability(self, history, word):
        """Returns log p(word | history) with backoff."""
        history = history[len(history) - self.model.order + 1 :] if self.model.order > 1 else ()
        if (*history, word) in self.grams:
            return self.grams[*history, word][0]
        return self.grams.get(history, (0, 0))[1] + self.log_probability(history[1:], word)

    def of_sentence(self, sentence, end):
        if not self.model:
            return 0.0
        ids = self.model.ids(["<s>", *sentence, *["</s>"] * end]).tolist()
        return sum(
            self.log_probability(tuple(ids[max(0, place - 5) : place]), ids[place]) for place in range(1, len(ids))
        )

    def _reward(self, prefix):
        """Returns the reward of a prefix, or None if no sentence starts with it."""
        *words, begun = "".join(prefix).split("|" if self.separator is None else self.separator)
        if self.words is None:
            return self.weight * self.of_sentence(prefix, False) + self.bonus * len(prefix)
        if not set(words) <= set(self.words) or not any(word.startswith(begun) for word in self.words):
            return None
        return self.weight * self.of_sentence(words if self.of_words else prefix, False) + self.bonus * len(words)

    def final(self, prefix):
        """Returns the reward as a complete sequence, and whether it ends with a complete word."""
        *words, begun = "".join(prefix).split("|" if self.separator is None else self.separator)
        whole = self.words is None or begun in ["", *self.words]
        added = self.bonus * (whole and begun != "") if self.words else 0.0
        sentence = [*words, *[begun] * (begun != "" and whole)] if self.of_words else prefix
        before = self.of_sentence(words if self.of_words else prefix, False)
        return self.reward(prefix) + added + self.weight * (self.of_sentence(sentence, True) - before), whole

    def search(self, logits, width, labels, blank):
        """Returns [(tokens, log probability, score)] of a prefix beam search, best first."""
        beam = {(): (0.0, -np.inf)}
        for frame in log_softmax(logits):
            grown = {}

            def add(prefix, blank_score, token_score, grown=grown):
                if self.reward(prefix) is not None:
                    old = grown.get(prefix, (-np.inf, -np.inf))
                    grown[prefix] = np.logaddexp(old[0], blank_score), np.logaddexp(old[1], token_score)

            for prefix, (by_blank, by_token) in beam.items():
                total = np.logaddexp(by_blank, by_token)
                of_last = frame[labels.index(prefix[-1])] if prefix else -np.inf
                add(prefix, total + frame[blank], by_token + of_last)
                for label in [label for label in labels if label is not None]:
                    score = (by_blank if prefix[-1:] == (label,) else total) + frame[labels.index(label)]
                    add((*prefix, label), -np.inf, score)
                    if self.separator is None:
                        add((*prefix, "|", label), -np.inf, score)
            ranked = sorted(grown, key=lambda prefix: -np.logaddexp(*grown[prefix]) - self.reward(prefix))
            beam = {prefix: grown[prefix] for prefix in ranked[:width]}
        found = []
        for prefix, scores in beam.items():
            reward, whole = self.final(prefix)
            tokens = [labels.index(label) for label in prefix if label != "|"]
            found.append((tokens, np.logaddexp(*scores), np.logaddexp(*scores) + reward, whole))
        found = [item for item in found if item[3]] or found
        return sorted((item[:3] for item in found), key=lambda item: -item[2])


@functools.cache
def model_of(kind):
    if kind == "words":
        return kneser_ney(SENTENCES, order=3)
    if kind == "labels":
        return kneser_ney([list(" ".join(sentence)) for sentence in SENTENCES], order=3)
    return None


CASES = [
    # lexicon, separator, language model, blank, weight, bonus
    (True, " ", None, 0, 0.5, 0.0),
    (True, " ", "words", 4, 0.7, 0.9),
    (True, None, "words", 2, 0.7, -0.4),
    (True, " ", "labels", 0, 0.5, 0.5),
    (False, " ", "labels", 1, 1.3, 0.3),
    (False, " ", None, 0, 0.5, 0.8),
]


@pytest.mark.parametrize(("lexical", "separator", "kind", "blank", "weight", "bonus"), CASES)
def test_the_search_matches_the_definition(lexical, separator, kind, blank, weight, bonus):
    labels = [*LABELS[:blank], None, *LABELS[blank:]]
    lexicon = Lexicon(WORDS, LABELS, separator, blank) if lexical else None
    textbook = Textbook(model_of(kind), kind == "words", weight, bonus, WORDS if lexical else None, separator)
    options = {"lexicon": lexicon, "language_model": model_of(kind), "lm_weight": weight, "word_bonus": bonus}
    options |= {"vocabulary": LABELS if kind == "labels" else None, "blank_index": blank}

    decode = tf.function(
        lambda logits: beam_search_decode(logits, beam_width=6, top_paths=4, **options)[:3],
        input_signature=[tf.TensorSpec([None, None, 5], tf.float64)],
        autograph=False,
    )
    generator = np.random.default_rng(blank)
    for frames, scale in itertools.product((0, 1, 2, 11), (0.5, 3)):
        logits = generator.normal(0, scale, (2, frames, 5))
        tokens, log_probabilities, scores = decode(logits)
        for row in range(2):
            expected = textbook.search(logits[row], 6, labels, blank)[:4]
            for place, (right, log_probability, score) in enumerate(expected):
                assert tokens[row, place].numpy().tolist() == right + [-1] * (frames - len(right))
                np.testing.assert_allclose(log_probabilities[row, place], log_probability, rtol=1e-6)
                np.testing.assert_allclose(scores[row, place], score, rtol=1e-6)  # the tables are float32
            np.testing.assert_array_equal(scores[row, len(expected) :], np.float64(-1e30))
            assert (tokens[row, len(expected) :].numpy() == -1).all()


def test_the_fused_textbook_without_fusion_is_the_plain_one():
    logits = np.random.default_rng(9).normal(0, 2, (6, 5))
    plain = prefix_beam_search(logits, 5, 0)
    fused = Textbook(None, False, 0.0, 0.0).search(logits, 5, [None, *LABELS], 0)
    assert [tuple(tokens) for tokens, *_ in fused] == [prefix for prefix, _ in plain]
    np.testing.assert_allclose([score for *_, score in fused], [score for _, score in plain])
