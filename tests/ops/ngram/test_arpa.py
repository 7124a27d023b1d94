import gzip
import re

import numpy as np
import pytest

from keras_dl.ops.ngram import NGram, kneser_ney, read_arpa, write_arpa

from .textbook import backed_off, random_model

FILE = r"""
written by hand

\data\
ngram 1=5
ngram 2=2
ngram 3=1

\1-grams:
-1.0	<unk>
-99	<s>	-0.5
-0.75	</s>
-0.25	a	-0.125
-2	b

\2-grams:
-0.5 <s> a -0.0625
-0.375	a	b	0.25

\3-grams:
-0.03125	<s> a	b

\end\
nothing counts here
"""


@pytest.fixture
def written(tmp_path):
    def write(text):
        path = tmp_path / "model.arpa"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def test_a_hand_written_file(written):
    model = read_arpa(written(FILE))
    assert (model.order, model.vocabulary) == (3, ["<unk>", "<s>", "</s>", "a", "b"])
    sentences = [["a", "b"], ["b"], ["a", "x"], ["b", "a", "b", "b"]]
    # <s> a; <s> a b; </s> after a b at 0.25 ... in logarithms to base 10.
    powers = [
        -0.5 - 0.03125 + 0.25 - 0.75,
        (-0.5 - 2) - 0.75,
        -0.5 + (-0.0625 - 0.125 - 1) - 0.75,
        (-0.5 - 2) - 0.25 - 0.375 + (0.25 - 2) - 0.75,
    ]
    np.testing.assert_allclose(model.score(sentences), np.array(powers) * np.log(10), rtol=1e-6)


@pytest.mark.parametrize("order", [1, 2, 4])
def test_a_written_model_can_be_read(order, tmp_path):
    words, entries, *_ = random_model(np.random.default_rng(order), order)
    words[3:5] = ["字\u3000", "\u00a0"]  # whitespace that does not separate fields
    model = NGram(words, entries)
    write_arpa(tmp_path / "model.arpa", model)
    again = read_arpa(tmp_path / "model.arpa")
    assert again.vocabulary == words
    for before, after in zip(model.entries, again.entries, strict=True):
        np.testing.assert_array_equal(after.grams, before.grams)
        np.testing.assert_allclose(after.log_probability, before.log_probability, rtol=1e-7)
        np.testing.assert_allclose(after.backoff, before.backoff, rtol=1e-7)


def test_a_missing_unk_is_added(written):
    text = FILE.replace("-1.0	<unk>\n", "").replace("ngram 1=5", "ngram 1=4")
    model = read_arpa(written(text))
    assert model.vocabulary == ["<s>", "</s>", "a", "b", "<unk>"]
    assert model.score([["x"]])[0] == pytest.approx((-0.5 - 100 - 0.75) * np.log(10), rel=1e-5)


@pytest.mark.parametrize(
    ("before", "after", "line", "message"),
    [
        ("\\data\\\n", "", 8, r"expected \\data\\. Received: '\\\\1-grams:'"),
        ("\\data\\", "nothing", 9, r"expected \\data\\"),
        ("ngram 1=5\nngram 2=2\nngram 3=1\n", "", 6, "expected 'ngram 1=COUNT'"),
        ("ngram 2=2", "ngram two", 6, r"expected 'ngram 2=COUNT'. Received: 'ngram two'"),
        ("ngram 2=2\n", "", 6, "expected 'ngram 2=COUNT'. Received: 'ngram 3=1'"),
        ("ngram 1=5", "ngram 1=6", 16, "expected 6 1-grams before this line, as announced. Received: 5"),
        ("ngram 2=2", "ngram 2=1", 20, "expected 1 2-grams before this line, as announced. Received: 2"),
        ("-0.25	a", "x	a", 13, "expected a number as log probability. Received: 'x\\\\ta"),
        ("-0.25	a", "nan	a", 13, "expected a number as log probability"),
        ("-0.25	a", "0.25	a", 13, "expected a log probability, at most 0"),
        ("-0.25	a", "-0_25	a", 13, "expected a number as log probability"),
        ("a	-0.125", "a	half", 13, "expected a number as backoff weight"),
        ("-2	b", "-2	a", 14, "once. Received again"),
        ("-2	b", "-2", 14, "expected a log probability, 1 words and optionally a backoff weight"),
        ("-0.375	a	b", "-0.375	<s>	a", 18, "once. Received again"),
        ("-0.375	a	b", "-0.375	a	z", 18, "expected 'z' among the 1-grams"),
        ("-0.375	a	b	", "-0.375	a	", 18, "expected '0.25' among the 1-grams"),
        ("-0.03125	<s> a	b", "-0.03125	a a	b", 21, "expected its context among the 2-grams"),
        ("-0.03125	<s> a	b", "-0.03125	<s> a	b	0.5", 21, "3 words. Received"),
        ("\\2-grams:", "\\two-grams:", 16, r"expected \\2-grams:. Received: '\\\\two-grams:'"),
        ("\\2-grams:", "\\3-grams:", 16, r"expected \\2-grams:"),
        ("\\end\\", "\\4-grams:", 23, r"expected \\end\\"),
    ],
)
def test_malformed_files_raise(before, after, line, message, written):
    assert FILE.count(before) == 1
    path = written(FILE.replace(before, after))
    with pytest.raises(ValueError, match=rf"{re.escape(str(path))}, line {line}: .*{message}"):
        read_arpa(path)


@pytest.mark.parametrize("lines", [3, 6, 12, 17, 22])
def test_truncated_files_raise(lines, written):
    path = written("".join(FILE.splitlines(keepends=True)[:lines]))
    with pytest.raises(ValueError, match=rf"model.arpa, line {lines}: expected .* Received: the end of the file"):
        read_arpa(path)


def test_invalid_utf_8_raises(written):
    path = written(FILE.encode().replace(b"-2\tb", b"-2\t\xff"))
    with pytest.raises(ValueError, match=r"line 14: expected UTF-8. Received: '-2\\t.'"):
        read_arpa(path)


def test_missing_sentence_markers_raise(written):
    path = written(FILE.replace("</s>", "<end>"))
    with pytest.raises(ValueError, match=r"model.arpa, line 16: expected <s> and </s> among .*: \['</s>'\]"):
        read_arpa(path)


def test_an_empty_file_raises(written):
    with pytest.raises(ValueError, match=r"model.arpa: expected .data.. Received: an empty file"):
        read_arpa(written(""))


@pytest.mark.parametrize(
    "content", [gzip.compress(FILE.encode(), mtime=0), FILE.encode("utf-16"), FILE.encode("utf-16-be")[2:]]
)
def test_binary_files_raise(content, written):
    with pytest.raises(ValueError, match="model.arpa, line 1: expected uncompressed UTF-8 text. Received: binary data"):
        read_arpa(written(content))


@pytest.mark.parametrize("text", [FILE.lstrip(), FILE])
def test_a_byte_order_mark_is_skipped(text, written):
    assert read_arpa(written(text.encode("utf-8-sig"))).vocabulary == ["<unk>", "<s>", "</s>", "a", "b"]


@pytest.mark.parametrize("unknown", ["<UNK>", "<Unk>"])
def test_unk_in_capitals_is_unk(unknown, written):
    model = read_arpa(written(FILE.replace("<unk>", unknown)))
    assert model.vocabulary == read_arpa(written(FILE)).vocabulary
    assert model.score([["x"]])[0] == pytest.approx((-0.5 - 1 - 0.75) * np.log(10), rel=1e-5)


def test_letter_models_with_a_space_can_be_written_and_read(tmp_path):
    model = kneser_ney([list("a b ba"), list("b ab")], order=3)
    write_arpa(tmp_path / "letters.arpa", model)
    assert "<s> a <0x20>" in (tmp_path / "letters.arpa").read_text()
    again = read_arpa(tmp_path / "letters.arpa")
    assert again.vocabulary == model.vocabulary
    sentences = [list("b a"), list(" ")]
    np.testing.assert_allclose(again.score(sentences), model.score(sentences), rtol=1e-6)


@pytest.mark.parametrize("word", ["", "New York", " a", "a\x0bb", "\n", "  ", "<0x20>", "<UNK>"])
def test_words_that_cannot_be_written(word, tmp_path):
    with pytest.raises(
        ValueError, match="Words of an ARPA file must not be empty" + ".*" + re.escape(f"Received: {word!r}")
    ):
        write_arpa(tmp_path / "model.arpa", kneser_ney([["a", word]], order=2))
    assert not (tmp_path / "model.arpa").exists()


def test_kenlm_scores_the_same(tmp_path):
    kenlm = pytest.importorskip("kenlm")
    generator = np.random.default_rng(0)
    text = [[f"w{i}" for i in generator.zipf(1.5, generator.integers(1, 15)) % 50] for _ in range(300)]
    model = kneser_ney(text[:250], order=4, minimum_count=2)
    write_arpa(tmp_path / "model.arpa", model)
    peer = kenlm.Model(str(tmp_path / "model.arpa"))
    expected = [peer.score(" ".join(sentence)) * np.log(10) for sentence in text[250:]]
    np.testing.assert_allclose(model.score(text[250:]), expected, rtol=1e-4)


def test_a_read_model_steps_like_the_textbook(written):
    """Listed and backed-off words, after a round trip through a file."""
    words, entries, listed, backoff = random_model(np.random.default_rng(9), 3)
    path = written("")
    write_arpa(path, NGram(words, entries))
    model = read_arpa(path)
    for word in words:
        expected = backed_off(listed, backoff, ("<s>",), word)
        found, _ = model.step(model.initial_state, model.ids([word])[0])
        assert float(found) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("zero", ["0", "0.0", "-0", "0e5", "+.0"])
def test_a_backoff_of_zero_of_the_longest_grams_is_read(tmp_path, zero):
    """Some toolkits write it; any other one would be lost."""
    lines = (
        "\\data\\\nngram 1=4\nngram 2=2\n\n\\1-grams:\n-1.0\t<unk>\t0\n-99\t<s>\t-0.3\n-0.4\t</s>\t0\n-0.3\ta\t-0.2\n\n"
    )
    lines += f"\\2-grams:\n-0.12\t<s> a\t{zero}\n-0.5\ta </s>\t{zero}\n\n\\end\\\n"
    path = tmp_path / "zero.arpa"
    path.write_text(lines)
    np.testing.assert_allclose(read_arpa(path).score([["a"]]) / np.log(10), [-0.62], atol=1e-6)
    path.write_text(lines.replace(f"a </s>\t{zero}", "a </s>\t-0.1"))
    with pytest.raises(ValueError, match="line 13: expected a log probability, 2 words. Received"):
        read_arpa(path)
    only_words = (
        lines[: lines.index("\\2-grams")].replace("ngram 2=2\n", "").replace("-0.3\n", "0\n").replace("-0.2", "0")
    )
    path.write_text(only_words + "\\end\\\n")
    assert read_arpa(path).order == 1
