"""Tests of number words."""

import numpy as np
import pytest

from keras_dl.data import load
from keras_dl.data.builders.number_words import deal, pair, say
from keras_dl.data.sources import prepared
from keras_dl.errors import UserError


def spell(number):
    """An independent implementation of English number words, as a reference."""
    small = (
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
        "seventeen eighteen nineteen"
    ).split()
    tens = "twenty thirty forty fifty sixty seventy eighty ninety".split()
    if number < 20:
        return small[number]
    if number < 100:
        return tens[number // 10 - 2] + (f"-{small[number % 10]}" if number % 10 else "")
    if number < 1000:
        return f"{small[number // 100]} hundred" + (f" and {spell(number % 100)}" if number % 100 else "")
    rest = number % 1000
    return f"{spell(number // 1000)} thousand" + (f"{' and' if rest < 100 else ','} {spell(rest)}" if rest else "")


@pytest.fixture(scope="module")
def small():
    return load("number_words", largest=1000)


def test_splits_are_disjoint():
    parts = deal(100_000, seed=1)
    assert {split: len(numbers) for split, numbers in parts.items()} == {
        "train": 20_000,
        "validation": 2_000,
        "test": 2_000,
        "longer": 1_000,
    }
    everything = np.concatenate(list(parts.values()))
    assert len(set(everything.tolist())) == len(everything)
    assert all(numbers.min() >= 0 and numbers.max() < 100_000 for split, numbers in parts.items() if split != "longer")
    assert parts["longer"].min() >= 100_000 and 900_000 < parts["longer"].max() < 1_000_000


def test_all_numbers_below_100_are_in_the_training_split():
    for largest in (1000, 5000, 100_000):
        parts = deal(largest, seed=2)
        assert set(range(100)) <= set(parts["train"].tolist())


def test_short_numbers_are_drawn_more_often():
    for split, numbers in deal(100_000, seed=3).items():
        if split != "longer":
            share = [np.mean((numbers >= low) & (numbers < 10 * low)) for low in (100, 1_000, 10_000)]
            assert share == pytest.approx([0.03, 0.2, 0.77], abs=0.03)  # uniform draws: 0.009, 0.09, 0.9


def test_a_small_range_uses_all_numbers():
    parts = deal(1000, seed=0)
    together = np.concatenate([parts[split] for split in ("train", "validation", "test")])
    assert sorted(together.tolist()) == list(range(1000))
    assert len(parts["validation"]) == len(parts["test"]) == 83


def test_the_seed_determines_the_draw():
    first, same, other = deal(10_000, 4), deal(10_000, 4), deal(10_000, 5)
    for split in first:
        np.testing.assert_array_equal(first[split], same[split])
    assert set(first["test"].tolist()) != set(other["test"].tolist())


def test_words_match_the_numbers(small):
    for split in small:
        examples = list(split.as_numpy_iterator())
        assert examples
        for example in examples:
            assert example["target"].decode() == spell(int(example["number"]))
            assert example["source"].decode() == say(int(example["number"]), "de")
    assert say(21, "de") == "einundzwanzig"
    assert say(71_123, "en") == spell(71_123)


def test_longer_numbers_are_a_separate_split():
    builder = prepared("number_words", largest=1000)
    longer = list(builder.as_dataset(split="longer").as_numpy_iterator())
    assert len(longer) == 1000
    assert all(1000 <= example["number"] < 10_000 for example in longer)
    assert longer[0]["target"].decode() == spell(int(longer[0]["number"]))


def test_languages_in_any_order():
    assert pair("fr, pt_BR") == ["fr", "pt_BR"]
    example = next(load("number_words", languages="en,nl", largest=1000).test.as_numpy_iterator())
    assert example["source"].decode() == spell(int(example["number"]))
    assert example["target"].decode() == say(int(example["number"]), "nl")


@pytest.mark.parametrize("languages", ["de", "de,en,fr", "", "de,xx", "de;en", "de,../en"])
def test_unknown_languages_list_the_available_ones(languages):
    with pytest.raises(UserError, match=r"two of am, ar, .*, vi, as in de,en. Received: " + languages):
        load("number_words", languages=languages)


@pytest.mark.parametrize("largest", [999, 1_000_001, 1e4, "1000", True])
def test_largest_out_of_range(largest):
    with pytest.raises(UserError, match="integer from 1000 to 1000000. Received"):
        load("number_words", largest=largest)


def test_numbers_that_a_language_does_not_support():
    with pytest.raises(UserError, match=r"num2words cannot convert \d+ to words in 'am'"):
        load("number_words", languages="am,en", largest=100_000)
