"""Invented opinions: texts to classify where there are none.

A stand-in from a small grammar. The writer says what he thinks of one thing, perhaps with a negation ("not good"),
among sentences that say nothing of it: facts, and the opinions of others. A count of words does not tell them apart.
"""

import numpy as np

THINGS = "acting cast dialogue direction ending film music pace photography plot script story".split()
WORDS = {
    "positive": "brilliant charming clever delightful fresh funny good moving original wonderful".split(),
    "negative": "awful bad boring clumsy dull flat predictable silly tedious weak".split(),
}
DEGREES = ["", "", "very ", "rather ", "quite "]
SAYS = ["i find the {thing} {opinion}", "to me the {thing} is {opinion}", "for my part , the {thing} seemed {opinion}"]
OTHERS = ["my friends call the {thing} {opinion}", "some say that the {thing} is {opinion}", "they found it {opinion}"]
FACTS = [
    "it lasts two hours", "we saw it on a monday", "the {thing} is by a newcomer", "it was shot in the north",
    "there is a scene with a train", "the {thing} comes from a book", "nobody left before the end",
]  # fmt: skip


def invent(count: int, seed: int) -> list[tuple[str, str]]:
    """So many `(text, label)`, the texts different, the same for a seed.

    Example:

    >>> texts = invent(100, seed=0)
    >>> len(texts), sorted({label for _, label in texts})
    (100, ['negative', 'positive'])
    """
    generator, found = np.random.default_rng(seed), {}

    def choose(options):
        return options[generator.integers(len(options))]

    def opinion(label):
        negated = generator.random() < 0.4
        kind = label if not negated else next(other for other in WORDS if other != label)
        return f"{'not ' if negated else ''}{choose(DEGREES)}{choose(WORDS[kind])}"

    while len(found) < count:
        label = choose(list(WORDS))
        sentences = [choose(SAYS).format(thing=choose(THINGS), opinion=opinion(label))]
        for _ in range(generator.integers(1, 5)):
            other = choose(OTHERS if generator.random() < 0.4 else FACTS)
            said = other.format(thing=choose(THINGS), opinion=opinion(choose(list(WORDS))))
            sentences.insert(generator.integers(len(sentences) + 1), said)
        found[" . ".join(sentences) + " ."] = label
    return list(found.items())
