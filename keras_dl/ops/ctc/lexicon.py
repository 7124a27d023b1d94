"""Lexicons that restrict decodings to known words."""

import numpy as np
import tensorflow as tf

from keras_dl.ops.checks import checked_labels


class Lexicon:
    """A list of words as a trie in tables; each label of a decoding requires one gather.

    Node 0 is the root, where every word starts. Each label leads from a node to the next, and words with a common
    prefix share its nodes.

    Args:
        words: list of words, each a str of one-character labels or a sequence of labels of any length (`["th", "e"]`).
            Duplicates are merged; a word given with two sequences of labels can be spelled either way.
        vocabulary: list of str, the labels in order, or an int n for `"0"` to `"n - 1"`, as for
            `keras_dl.layers.CTCOutput`: label i has class i if i is below the blank, else i + 1.
        separator: str, the label between two words, or None if words directly follow each other. Defaults to `" "`.
        blank_index: int, the class of the blank. Defaults to 0.

    Attributes:
        words: list of str, the words without duplicates, in the given order.
        next_node: int32 tensor `[nodes, V]`: the node that each class leads to, or -1 if no word continues with it.
            Always -1 for the blank and the separator.
        word_at: int32 tensor `[nodes]`: the index in `words` of the word that ends at the node, or -1.
        separator_class: int, the class of the separator, or None.
        blank_index: int, the class of the blank.

    Raises:
        ValueError: if there are no words, `words` is a str, a word is empty or contains the separator or an unknown
            label, the vocabulary contains duplicates, or the separator is not in the vocabulary.

    Example:

    >>> lexicon = Lexicon(["to", "tea"], vocabulary=[" ", "a", "e", "o", "t"])
    >>> t = int(lexicon.next_node[0, 5])
    >>> lexicon.words[lexicon.word_at[lexicon.next_node[t, 4]]]
    'to'
    >>> int(lexicon.next_node[t, 2]), int(lexicon.word_at[t])            # no word starts with "ta"; "t" is not a word
    (-1, -1)
    """

    def __init__(self, words, vocabulary, separator=" ", blank_index=0):
        if isinstance(words, str):
            raise ValueError(f"`words` must be a list of words. Received: the str {words[:100]!r}")
        vocabulary = checked_labels(vocabulary, blank_index)
        if len(set(vocabulary)) < len(vocabulary):
            raise ValueError(f"`vocabulary` must not contain duplicates. Received: {vocabulary}")
        class_of = {label: index + (index >= blank_index) for index, label in enumerate(vocabulary)}
        if separator is not None and separator not in class_of:
            raise ValueError(
                f"`separator` must be a label of the vocabulary, or None if words directly follow each other. "
                f"Received: {separator!r}, vocabulary {vocabulary}"
            )
        children, word_at, index_of = [{}], [-1], {}
        for word in words:
            labels, word = list(word), "".join(word)
            _check(word, labels, class_of, separator)
            node = 0
            for label in labels:
                if class_of[label] not in children[node]:
                    children[node][class_of[label]] = len(children)
                    children.append({})
                    word_at.append(-1)
                node = children[node][class_of[label]]
            word_at[node] = index_of.setdefault(word, len(index_of))
        if not index_of:
            raise ValueError("`words` must contain at least one word. Received: none")

        table = np.full((len(children), len(vocabulary) + 1), -1, np.int32)
        for node, following in enumerate(children):
            table[node, list(following)] = list(following.values())
        self.words = list(index_of)
        self.separator_class = None if separator is None else class_of[separator]
        self.blank_index = blank_index
        self.next_node = tf.constant(table)
        self.word_at = tf.constant(word_at, tf.int32)


def _check(word, labels, class_of, separator):
    unknown = sorted({label for label in labels if label not in class_of})
    if unknown:
        raise ValueError(f"Words must consist of labels in the vocabulary. Received: {word!r} with {unknown}")
    if not labels:
        raise ValueError("Words must have at least one label. Received: an empty word")
    if separator in labels:
        raise ValueError(f"Words must not contain the separator {separator!r}. Received: {word!r}")
