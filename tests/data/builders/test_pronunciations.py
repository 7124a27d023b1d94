"""Tests of pronunciations: dictionary formats, splits by word, and invented words."""

import os
import random
import zipfile
from pathlib import Path

import pytest

from keras_dl.data import load
from keras_dl.data.builders import pronunciations
from keras_dl.data.builders.pronunciations import CODAS, ENDS, ONSETS, RULES, VOWELS, invent, pronounce, read
from keras_dl.errors import UserError

MORE = "".join(f"WORD{letter}  W ER1 D\n" for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ")


def dictionary(folder, lines, name="words.dict"):
    path = folder / name
    path.write_bytes((lines + MORE).encode() if isinstance(lines, str) else lines + MORE.encode())
    return path


@pytest.mark.parametrize(
    "lines",
    [
        "TOMATO 1 T AH0 M EY1 T OW2\nTOMATO 2 T AH0 M AA1 T OW2\nDON'T 1 D OW1 N T\n",
        ";;; a comment\n\nTOMATO  T AH0 M EY1 T OW2\r\nTOMATO(1)  T AH0 M AA1 T OW2\nDON'T  D OW1 N T\n",
        "tomato T AH0 M EY1 T OW2 # fruit\ntomato(2) T AH0 M AA1 T OW2\ndon't D OW1 N T\n",
    ],
)
def test_formats_of_dictionaries(lines, tmp_path):
    words = read(dictionary(tmp_path, lines))
    assert words["tomato"] == ["T AH M EY T OW".split(), "T AH M AA T OW".split()]
    assert words["don't"] == ["D OW N T".split()]
    assert len(words) == 28
    assert read(dictionary(tmp_path, lines), stress=True)["tomato"][0] == "T AH0 M EY1 T OW2".split()


def test_pronunciations_that_differ_only_in_stress_are_merged(tmp_path):
    path = dictionary(tmp_path, "RECORD  R EH1 K ER0 D\nRECORD(2)  R EH0 K ER1 D\n")
    assert read(path)["record"] == ["R EH K ER D".split()]
    assert len(read(path, stress=True)["record"]) == 2


def test_words_may_have_any_characters(tmp_path):
    words = read(dictionary(tmp_path, "#HASH-MARK  HH AE1 SH\n(PAREN  P ER0 EH1 N\n(2)  T UW1\nA42128 1 EY1\n"))
    assert {"#hash-mark", "(paren", "(2)", "a42128"} < set(words)
    assert words["a42128"] == [["EY"]]


def test_latin_1_and_byte_order_mark(tmp_path):
    assert "déjà" in read(dictionary(tmp_path, "DÉJÀ  D EY2 ZH AA1\n".encode("latin-1")))
    assert "déjà" in read(dictionary(tmp_path, "\ufeffDÉJÀ  D EY2 ZH AA1\n"))


def test_the_dictionary_is_found_in_an_archive(tmp_path):
    for members in ({"cmudict/cmudict": MORE, "cmudict/README": "read me"}, {"some/words.txt": MORE}):
        with zipfile.ZipFile(tmp_path / "words.zip", "w") as archive:
            for name, text in members.items():
                archive.writestr(name, text)
        assert len(read(tmp_path / "words.zip")) == 26


def test_no_word_is_in_two_splits(tmp_path):
    lines = "".join(f"W{n} 1 AH{n % 3} N\nW{n} 2 OW1\n" for n in range(400))
    train, validation, test = load("pronunciations", dictionary=str(dictionary(tmp_path, lines)))
    found = [[e["source"].decode() for e in split.as_numpy_iterator()] for split in (train, validation, test)]
    assert [len(set(words)) for words in found] == [384, 21, 21]
    assert len(set().union(*found)) == 426
    assert len(found[1]) == len(found[2]) == 21  # one example per word
    assert sorted(found[0]).count("w7") in (0, 2)  # one example per pronunciation
    for split in (train, test):
        for example in split.as_numpy_iterator():
            texts = [text.decode() for text in example["pronunciations"]]
            assert example["target"].decode() in texts
            assert texts == (["AH N", "OW"] if example["source"][1:].isdigit() else ["W ER D"])
    assert all(example["target"] == example["pronunciations"][0] for example in test.as_numpy_iterator())


def test_invented_words_are_the_default(tmp_path, monkeypatch):
    assert pronunciations.INVENTED == 8_000
    monkeypatch.setattr(pronunciations, "INVENTED", 400)
    builder = pronunciations.Pronunciations(data_dir=tmp_path)
    builder.download_and_prepare()
    splits = [list(builder.as_dataset(split=name).as_numpy_iterator()) for name in ("train", "validation", "test")]
    assert len(splits[0]) >= 360 and [len(split) for split in splits[1:]] == [20, 20]
    for example in sum(splits, []):
        expected = [" ".join(phones) for phones in pronounce(example["source"].decode())]
        assert [text.decode() for text in example["pronunciations"]] == expected
    assert invent(50, seed=1) == invent(50, seed=1) != invent(50, seed=2)


def test_rules_cover_all_words_and_all_rules_are_used():
    # A rule depends on at most two letters after its position.
    for onset in ONSETS:
        for vowel in set(VOWELS):
            assert all(pronounce(f"{onset}{vowel}"))
    for vowel in set(VOWELS):
        for coda in CODAS:
            for end in (*ENDS, *ONSETS):
                assert all(pronounce(f"b{vowel}{coda}{end}"))
    words = random.Random(0).sample(sorted(invent(3000, seed=3)), 1000)
    used = {rule.pattern for word in words for rule, _ in RULES if rule.search(word)}
    assert used == {rule.pattern for rule, _ in RULES}
    # The phone of a letter depends on its neighbors.
    assert [pronounce(word)[0] for word in ("cat", "city", "bat", "bate", "that", "wrath")] == [
        text.split() for text in ("K AE T", "S IH T IY", "B AE T", "B EY T", "TH AE T", "R AE TH")
    ]


def test_invalid_files(tmp_path):
    with pytest.raises(UserError, match=r"words.dict:2: expected a word and its phones. Received: 'LONELY'"):
        read(dictionary(tmp_path, "GOOD  G UH1 D\nLONELY\n"))
    with pytest.raises(UserError, match=r"words.dict:1: expected a word and its phones. Received: 'LONELY 1'"):
        read(dictionary(tmp_path, "LONELY 1\n"))
    (tmp_path / "short").write_text("A  AH0\n")
    with pytest.raises(UserError, match="at least 20 words. .*short has 1"):
        read(tmp_path / "short")
    with pytest.raises(UserError, match="cannot read the dictionary .*missing: No such file"):
        load("pronunciations", dictionary=str(tmp_path / "missing"))
    with zipfile.ZipFile(tmp_path / "many.zip", "w") as archive:
        archive.writestr("a", MORE)
        archive.writestr("b", MORE)
    with pytest.raises(UserError, match="one file named cmudict in .*many.zip. Received: a, b"):
        read(tmp_path / "many.zip")
    whole = (tmp_path / "many.zip").read_bytes()
    (tmp_path / "broken.zip").write_bytes(whole[:40] + b"\0" * 40 + whole[80:])
    with pytest.raises(UserError):
        read(tmp_path / "broken.zip")


def test_damaged_archives(tmp_path):
    with zipfile.ZipFile(tmp_path / "whole.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("words", MORE)
    whole = (tmp_path / "whole.zip").read_bytes()
    assert len(read(tmp_path / "whole.zip")) == 26
    content = 30 + len("words")  # after the header of the member
    (tmp_path / "broken.zip").write_bytes(whole[:content] + b"\xff" * 20 + whole[content + 20 :])
    with pytest.raises(UserError, match="cannot read the dictionary .*broken.zip: "):
        read(tmp_path / "broken.zip")
    (tmp_path / "half.zip").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(
        UserError, match="cannot read the dictionary .*half.zip: the zip archive is damaged or truncated"
    ):
        read(tmp_path / "half.zip")


def test_tensorflow_datasets_has_no_dictionary():
    with pytest.raises(UserError, match="TensorFlow Datasets has no pronouncing dictionary: .*Received: tfds:cmudict"):
        load("pronunciations", dictionary="tfds:cmudict")


@pytest.mark.skipif("KERAS_DL_TEST_DATA" not in os.environ, reason="KERAS_DL_TEST_DATA names no folder with cmudict/")
def test_the_cmu_dictionary():
    words = read(Path(os.environ["KERAS_DL_TEST_DATA"]) / "cmudict" / "cmudict.zip")
    assert len(words) > 120_000
    assert len({phone for choices in words.values() for phones in choices for phone in phones}) == 39
    assert words["tomato"] == ["T AH M EY T OW".split(), "T AH M AA T OW".split()]
