"""Reference implementations of n-gram models in plain Python."""

import collections
import math

import numpy as np

from keras_dl.ops.ngram import Entries

MARKS = ["<unk>", "<s>", "</s>"]


def backed_off(listed, backoff, history, word):
    """Returns log p(word | history) of a backoff model; `listed` and `backoff` are dictionaries of tuples."""
    if (*history, word) in listed:
        return listed[*history, word]
    return backoff.get(history, 0.0) + backed_off(listed, backoff, history[1:], word)


def random_model(generator, order, letters="abcd", density=0.3):
    """Returns words, entries, and the entries as dictionaries. Suffixes of listed grams need not be listed."""
    words = [*MARKS, *letters]
    listed, backoff, contexts = {}, {}, [()]
    for length in range(1, order + 1):
        following = [
            (*context, word) for context in contexts for word in words if length == 1 or generator.random() < density
        ]
        listed |= {gram: -float(generator.exponential(2)) for gram in following}
        if length < order:
            backoff |= {gram: float(generator.normal(0, 1)) for gram in following}
        contexts = following
    entries = []
    for length in range(1, order + 1):
        grams = [gram for gram in listed if len(gram) == length]
        generator.shuffle(grams)
        grams = [tuple(gram) for gram in grams]
        rows = np.array([[words.index(word) for word in gram] for gram in grams]).reshape(-1, length)
        entries.append(Entries(rows, [listed[gram] for gram in grams], [backoff.get(gram, 0.0) for gram in grams]))
    return words, entries, listed, backoff


class KneserNey:
    """Interpolated modified Kneser-Ney smoothing, directly from the equations of Chen and Goodman 1999."""

    def __init__(self, sentences, order, words):
        self.order, self.words = order, words
        sentences = [["<s>", *(w if w in words else "<unk>" for w in sentence), "</s>"] for sentence in sentences]
        seen = collections.Counter(
            tuple(sentence[start : start + length])
            for sentence in sentences
            for length in range(1, order + 1)
            for start in range(len(sentence) - length + 1)
        )
        self.counts = {}
        for gram, times in seen.items():
            if len(gram) == order or gram[0] == "<s>":
                self.counts[gram] = times
            else:
                self.counts[gram] = sum(longer[1:] == gram for longer in seen)
        del self.counts["<s>",]
        self.discounts = [self.estimated(length) for length in range(1, order + 1)]

    def estimated(self, length):
        counts = collections.Counter(times for gram, times in self.counts.items() if len(gram) == length)
        try:
            base = counts[1] / (counts[1] + 2 * counts[2])
            found = [k - (k + 1) * base * counts[k + 1] / counts[k] for k in (1, 2, 3)]
        except ZeroDivisionError:
            return [0.5, 1.0, 1.5]
        return found if counts[4] and min(found) > 0 else [0.5, 1.0, 1.5]

    def probability(self, word, history):
        return self.interpolated(word, tuple(history[max(len(history) - self.order + 1, 0) :]))

    def interpolated(self, word, history):
        lower = self.interpolated(word, history[1:]) if history else 1 / (len(self.words) - 1)
        after = {gram: times for gram, times in self.counts.items() if gram[:-1] == history}
        total = sum(after.values())
        if not total:
            return lower
        discount = self.discounts[len(history)]
        gamma = sum(discount[min(times, 3) - 1] for times in after.values()) / total
        times = after.get((*history, word), 0)
        return (times - (discount[min(times, 3) - 1] if times else 0)) / total + gamma * lower

    def score(self, sentence):
        sentence = ["<s>", *(w if w in self.words else "<unk>" for w in sentence), "</s>"]
        return sum(math.log(self.probability(sentence[i], sentence[:i])) for i in range(1, len(sentence)))
