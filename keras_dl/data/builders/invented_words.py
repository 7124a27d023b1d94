"""Invented words and their pronunciations, for use without a pronouncing dictionary.

The words are a placeholder: they are drawn from word parts and pronounced by spelling rules that resemble English,
without exceptions. Results on them do not carry over to real words.
"""

import re

import numpy as np

ONSETS = "b c ch d f g h j k kn l m n p ph qu r s sh st t th tr v w wr z".split()
VOWELS = "a a a e e e i i i o o o u u ai ar ay ea ee er igh oa oo ow".split()
CODAS = ["", "", "", *"b c ck d g l ll m n ng nn p r s ss st t tch th tt x".split()]
ENDS = ["", "", "", "e", "y"]

# Spellings and their phones, with alternatives separated by "|". The first rule that matches at a position applies.
RULES = [
    (re.compile(spelling), [phones.split() for phones in choices.split("|")])
    for spelling, choices in [
        ("^kn", "N"), ("^wr", "R"), ("tch|ch", "CH"), ("sh", "SH"), ("th", "TH"), ("ph", "F"), ("ck", "K"),
        ("qu", "K W"), ("ng$", "NG"), ("x", "K S"), ("c(?=[eiy])", "S"), ("c|k", "K"), ("g(?=[eiy])", "JH"),
        ("ee|ea", "IY"), ("oo", "UW"), ("ai|ay", "EY"), ("oa", "OW"), ("ow", "OW|AW"), ("igh", "AY"), ("ar", "AA R"),
        ("er", "ER"), ("a(?=[^aeiouy]e$)", "EY"), ("i(?=[^aeiouy]e$)", "AY"), ("o(?=[^aeiouy]e$)", "OW"),
        ("u(?=[^aeiouy]e$)", "UW"), ("e(?=[^aeiouy]e$)", "IY"), ("e$", ""), ("y$", "IY"), ("ll?", "L"), ("nn?", "N"),
        ("ss?", "S"), ("tt?", "T"), ("a", "AE"), ("e", "EH"), ("i", "IH"), ("o", "AA"), ("u", "AH"), ("b", "B"),
        ("d", "D"), ("f", "F"), ("g", "G"), ("h", "HH"), ("j", "JH"), ("m", "M"), ("n", "N"), ("p", "P"), ("r", "R"),
        ("v", "V"), ("w", "W"), ("y", "Y"), ("z", "Z"),
    ]
]  # fmt: skip


def invent(count: int, seed: int) -> dict[str, list[list[str]]]:
    """Generates distinct words with their pronunciations, reproducibly for a seed: `{word: [phones, ...]}`.

    Example:

    >>> len(invent(100, seed=0))
    100
    """
    generator, words = np.random.default_rng(seed), {}
    while len(words) < count:
        syllables = (
            "".join(parts[generator.integers(len(parts))] for parts in (ONSETS, VOWELS, CODAS))
            for _ in range(generator.integers(1, 4))
        )
        word = "".join(syllables) + ENDS[generator.integers(len(ENDS))]
        words[word] = pronounce(word)
    return words


def pronounce(word: str) -> list[list[str]]:
    """Returns the pronunciations of a word according to the rules.

    Example:

    >>> pronounce("knight"), pronounce("cow")
    ([['N', 'AY', 'T']], [['K', 'OW'], ['K', 'AW']])
    """
    read, position = [[]], 0
    while position < len(word):
        found, choices = next((m, choices) for rule, choices in RULES if (m := rule.match(word, position)))
        read = [before + phones for before in read for phones in choices]
        position = found.end()
    return read
