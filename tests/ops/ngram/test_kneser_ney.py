import numpy as np
import pytest

from keras_dl.ops.ngram import kneser_ney

from .textbook import KneserNey


def after(model, *history):
    """Returns the probability of each word after the history, by name."""
    states = np.array([0])
    for word in history:
        _, states = model.step(states, model.ids([word]))
    log_probability, _ = model.step(states, np.arange(len(model.vocabulary)))
    return dict(zip(model.vocabulary, np.exp(log_probability), strict=True))


def random_text(generator, sentences=30, letters="abcdefghijk"):
    weights = 0.7 ** np.arange(len(letters))
    return [
        generator.choice(list(letters), generator.integers(0, 9), p=weights / weights.sum()).tolist()
        for _ in range(sentences)
    ]


def test_one_word_by_hand():
    model = kneser_ney([["a", "b", "c", "c", "d", "d", "d", "e", "e", "e", "e"]], order=1)
    # Counts: a, b, </s> 1, c 2, d 3, e 4; n = 3, 1, 1, 1; Y = 3 / 5; D = 1 - 0.4, 2 - 1.8, 3 - 2.4 = 0.6, 0.2, 0.6.
    gamma = (3 * 0.6 + 0.2 + 2 * 0.6) / 12 / 7
    found = after(model)
    expected = {"a": 0.4 / 12, "c": 1.8 / 12, "d": 2.4 / 12, "e": 3.4 / 12, "</s>": 0.4 / 12, "<unk>": 0}
    for word, listed in expected.items():
        assert found[word] == pytest.approx(listed + gamma, rel=1e-5), word


def test_two_words_by_hand():
    model = kneser_ney([["a", "b"], ["a", "c"]], order=2)
    # Nothing occurs three times: the discounts are 0.5, 1 and 1.5. Distinct words before a, b, c: 1; before </s>: 2.
    # One word: (1 - 0.5) / 5 + 2.5 / 5 / 5 = 0.2, </s> 1 / 5 + 0.1, <unk> 0.1.
    np.testing.assert_allclose([after(model)[w] for w in ("a", "</s>", "<unk>")], [0.2, 0.3, 0.1], rtol=1e-5)
    # <s> a occurs twice: (2 - 1) / 2 + 1 / 2 0.2; after a: b and c once each.
    assert after(model, "<s>")["a"] == pytest.approx(0.6, rel=1e-5)
    assert after(model, "a")["b"] == pytest.approx(0.5 / 2 + 1 / 2 * 0.2, rel=1e-5)
    assert after(model, "b")["c"] == pytest.approx(0.5 * 0.2, rel=1e-5)
    assert after(model, "b")["</s>"] == pytest.approx(0.5 + 0.5 * 0.3, rel=1e-5)
    assert model.score([["a", "b"]])[0] == pytest.approx(np.log(0.6 * 0.35 * 0.65), rel=1e-5)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_matches_the_paper(order):
    generator = np.random.default_rng(order)
    text, estimated = random_text(generator), 0
    for vocabulary in (None, ["a", "c", "never"]):
        model = kneser_ney(text, order, vocabulary)
        reference = KneserNey(text, order, model.vocabulary)
        estimated += sum(discount != [0.5, 1.0, 1.5] for discount in reference.discounts)
        sentences = [*random_text(generator, 6, "abcdxyz"), [], ["never", "a"]]
        np.testing.assert_allclose(model.score(sentences), [reference.score(s) for s in sentences], rtol=1e-5)
    assert estimated or order == 1  # not only the fallback discounts


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("sentences", [[[]], [["a"]], [["a", "a"], ["b"]], "random"], ids=["empty", "a", "few", "many"])
def test_probabilities_sum_to_one(order, sentences):
    text = random_text(np.random.default_rng(7)) if sentences == "random" else sentences
    model = kneser_ney(text, order)
    for history in [("<s>",), ("<s>", "a"), ("a", "a"), ("b", "a"), ("<unk>", "b"), ("e",)]:
        found = after(model, *history)
        assert found.pop("<s>") < 1e-30
        assert min(found.values()) > 0
        assert sum(found.values()) == pytest.approx(1, rel=1e-5)


def test_rare_words_and_words_outside_the_vocabulary_are_unknown():
    text = [["a", "a", "b", "c"], ["c", "a"]]
    rare = kneser_ney(text, order=2, minimum_count=2)
    assert rare.vocabulary == ["<unk>", "<s>", "</s>", "a", "c"]
    chosen = kneser_ney(
        text, order=2, vocabulary=["a", "c", "a", "<unk>"], minimum_count=9
    )  # then `minimum_count` is ignored
    assert chosen.vocabulary == rare.vocabulary
    spelled = kneser_ney([["a", "a", "<unk>", "c"], ["c", "a"]], order=2)
    sentences = [["a", "b", "c"], ["z"]]
    assert rare.score(sentences).tolist() == chosen.score(sentences).tolist()
    np.testing.assert_allclose(rare.score(sentences), spelled.score(sentences), rtol=1e-6)


def test_more_training_text_reduces_the_perplexity():
    generator = np.random.default_rng(8)
    text = [list("abcabcabc"[: generator.integers(3, 9)]) for _ in range(50)]
    perplexities = [kneser_ney(text[:40], order).perplexity(text[40:]) for order in (1, 2, 3)]
    assert perplexities[0] > 2 * perplexities[1]
    assert perplexities[1] < 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([],), "at least one sentence"),
        ((["the cat"],), "a str as sentence 1"),
        (([["a"], ["b", "</s>"]],), "must not contain <s> or </s>.*as sentence 2"),
        (([["a"], ["b", 7, None]],), "Words must be str. Received: 7 in sentence 2"),
        (([["a"]], 0), "`order` must be at least 1. Received: 0"),
    ],
)
def test_invalid_arguments_raise(arguments, message):
    with pytest.raises(ValueError, match=message):
        kneser_ney(*arguments)
