"""The words that a decoding may consist of."""

import numbers

import numpy as np
import tensorflow as tf


class Lexicon:
    """A list of words as a trie in tables, so that following it is one gather a letter.

    Node 0 is the root, where every word begins; the letters lead from node to node, and words that begin alike share
    their nodes.

    Args:
        words: list of words, each a str of labels of one character or a sequence of labels, which may be longer
            (`["th", "e"]`). A word given twice is one; given with other labels, it may be written either way.
        vocabulary: list of str, the labels in order, or an int n for `"0"` to `"n - 1"`, as for
            `keras_dl.layers.CTCOutput`: label i has class i below the blank and i + 1 from there on.
        separator: str, the label between two words, or None if words follow one another directly. Defaults to `" "`.
        blank_index: int, the class of the blank. Defaults to 0.

    Attributes:
        words: list of str, each word once, in the order given.
        next_node: int32 tensor `[nodes, V]`: where a letter leads, -1 if no word goes on like this. Blank and separator
            lead nowhere.
        word_at: int32 tensor `[nodes]`: the index in `words` of the word that ends here, or -1.
        separator_class: int, the class of the separator, or None.
        blank_index: int, the class of the blank.

    Raises:
        ValueError: if there is no word, all words are one str, a word is empty, holds the separator or a label that is
            not in the vocabulary, if the vocabulary holds a label twice, or if the separator is no label.

    Example:

    >>> lexicon = Lexicon(["to", "tea"], vocabulary=[" ", "a", "e", "o", "t"])
    >>> t = int(lexicon.next_node[0, 5])
    >>> lexicon.words[lexicon.word_at[lexicon.next_node[t, 4]]]
    'to'
    >>> int(lexicon.next_node[t, 2]), int(lexicon.word_at[t])            # nothing begins with "ta"; "t" is no word
    (-1, -1)
    """

    def __init__(self, words, vocabulary, separator=" ", blank_index=0):
        if isinstance(words, str):
            raise ValueError(f"`words` must be a list of words. Received: the str {words[:100]!r}")
        vocabulary = [str(n) for n in range(vocabulary)] if isinstance(vocabulary, numbers.Integral) else [*vocabulary]
        if len(set(vocabulary)) < len(vocabulary):
            raise ValueError(f"`vocabulary` must hold no label twice. Received: {vocabulary}")
        if not 0 <= blank_index <= len(vocabulary):
            raise ValueError(f"`blank_index` must be from 0 to {len(vocabulary)}. Received: {blank_index}")
        class_of = {label: index + (index >= blank_index) for index, label in enumerate(vocabulary)}
        if separator is not None and separator not in class_of:
            raise ValueError(
                f"the separator must be a label of the vocabulary, or None if words follow one another directly. "
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
            raise ValueError("a lexicon needs at least one word. Received: none")

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
        raise ValueError(f"the word {word!r} holds labels that are not in the vocabulary: {unknown}")
    if not labels:
        raise ValueError("a word needs at least one label. Received: an empty word")
    if separator in labels:
        raise ValueError(f"the word {word!r} holds the separator {separator!r}, which stands between words")
