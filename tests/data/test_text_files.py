"""Tests of reading text files and of assigning texts to splits."""

import collections

import pytest

from keras_dl.data.text_files import deal, read_lines
from keras_dl.errors import UserError


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (b"", []),
        (b"one", ["one"]),
        (b"one\ntwo\n", ["one", "two"]),
        (b"one\r\n\r\ntwo\r\n", ["one", "", "two"]),
        (b"\xef\xbb\xbfone\n\n", ["one", ""]),
        ("a\u2028b\x0bc\x85d\re\n".encode(), ["a\u2028b\x0bc\x85d\re"]),  # not line ends
    ],
)
def test_only_newlines_end_a_line(content, lines, tmp_path):
    (tmp_path / "text").write_bytes(content)
    assert read_lines(tmp_path / "text") == lines


def test_invalid_bytes_are_reported_with_their_line(tmp_path):
    (tmp_path / "text").write_bytes(b"one\ntwo\nthr\xe9e\n")
    with pytest.raises(UserError, match=r"text:3: expected UTF-8 text. Received: byte 0xe9"):
        read_lines(tmp_path / "text")


def test_missing_files(tmp_path):
    with pytest.raises(UserError, match="cannot read the text .*missing.txt: No such file"):
        read_lines(tmp_path / "missing.txt")
    with pytest.raises(UserError, match="cannot read the text .*: Is a directory"):
        read_lines(tmp_path)


def test_splits_depend_only_on_text_and_seed():
    texts = [f"text {number}" for number in range(1000)]
    dealt = deal(texts, "seed", (0.8, 0.15))
    assert collections.Counter(dealt.values()) == {"train": 800, "validation": 150, "test": 50}
    assert deal(texts[::-1], "seed", (0.8, 0.15)) == dealt
    assert deal(texts, "other", (0.8, 0.15)) != dealt
    # Another text moves at most one text across each border between splits.
    more = deal([*texts, "one more"], "seed", (0.8, 0.15))
    assert sum(more[text] != dealt[text] for text in texts) <= 2


def test_each_split_gets_at_least_one_text():
    assert sorted(deal(["a", "b", "c"], "", (0.98, 0.01)).values()) == ["test", "train", "validation"]
