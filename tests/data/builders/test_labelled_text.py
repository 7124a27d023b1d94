"""Tests of labeled text: file formats, stratified splits, TensorFlow Datasets, and invented opinions."""

import re

import numpy as np
import pytest
import tensorflow_datasets as tfds

from keras_dl.data import load
from keras_dl.data.builders.labelled_text import WORDS, invent
from keras_dl.errors import UserError

from ..tiny_sets import tiny_set

TEXT = tfds.features.Text()
GOOD, BAD = [f"gut {n} ä" for n in range(100)], [f"bad {n}" for n in range(60)]


def rows(splits, split):
    names = splits.features["label"].names
    examples = getattr(splits, split).as_numpy_iterator()
    return sorted((e["text"].decode(), names[e["label"]]) for e in examples)


def everything(splits):
    return [rows(splits, split) for split in ("train", "validation", "test")]


def write(path, lines):
    path.write_bytes("\n".join(lines).encode() + b"\n")
    return str(path)


def test_all_file_formats_give_the_same_examples(tmp_path):
    table = write(tmp_path / "table", [*(f"pos\t{text}" for text in GOOD), *(f"neg\t{text}\t" for text in BAD)])
    folder = tmp_path / "folder"
    folder.mkdir()
    good, bad = write(folder / "pos.txt", GOOD), write(folder / "neg.txt", BAD)
    (folder / "README").write_text("not a text")
    found = [load("labelled_text", texts=texts) for texts in (table, str(folder), f"pos={good}, neg={bad}")]
    assert everything(found[0]) == everything(found[1]) == everything(found[2])
    assert all(splits.features["label"].names == ["neg", "pos"] for splits in found)
    expected = [(text, "pos") for text in GOOD] + [(text, "neg") for text in BAD]
    assert sorted(sum(everything(found[0]), [])) == sorted(expected)


def test_labels_are_stratified_and_splits_are_disjoint(tmp_path):
    good, bad = write(tmp_path / "good", GOOD * 2), write(tmp_path / "bad", [*BAD, "", " ", GOOD[0]])
    found = everything(load("labelled_text", texts=f"good={good},bad={bad}"))
    counts = [[sum(label == name for _, label in part) for name in ("good", "bad")] for part in found]
    assert counts == [[80, 48], [10, 6], [10, 6]]
    texts = [text for part in found for text, _ in part]
    assert len(texts) == len(set(texts)) == 160


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["pos\tfine", "no tab"], r"table:2: expected LABEL<tab>TEXT. Received: 'no tab'"),
        (["\tfine"], r"table:1: expected LABEL<tab>TEXT. Received: '\\tfine'"),
        ([f"pos\t{n}" for n in range(30)], "at least two labels with 10 distinct texts each. .*table has: pos 30"),
        ([f"pos\t{n}" for n in range(30)] + ["neg\tx"] * 20, "each. .*table has: neg 1, pos 30"),
        (["", " "], "table has: no texts"),
        ([f"{n:02}\ttext {n}" for n in range(40)], r"table has: 40 labels: 00 1, 01 1, .* 09 1, \.\.\.$"),
    ],
)
def test_invalid_tables(lines, message, tmp_path):
    with pytest.raises(UserError, match=message):
        load("labelled_text", texts=write(tmp_path / "table", lines))


def test_invalid_file_names(tmp_path):
    for texts in ("missing.tsv", "a=b,c", f"{tmp_path}"):
        with pytest.raises(UserError, match=re.escape(f"LABEL=FILE,LABEL=FILE. Received: {texts}")):
            load("labelled_text", texts=texts)
    with pytest.raises(UserError, match="cannot read the text missing.txt: No such file"):
        load("labelled_text", texts="pos=missing.txt,neg=missing.txt")
    (tmp_path / "latin").write_bytes(b"fine\nna\xefve\n")
    with pytest.raises(UserError, match=r"latin:2: expected UTF-8 text"):
        load("labelled_text", texts=f"pos={tmp_path / 'latin'}")


def examples(split, count, hidden=False):
    return [{"sentence": f"{split} {n}", "idx": n, "label": -1 if hidden else n % 2} for n in range(count)]


def test_tfds_splits_are_kept_except_those_with_hidden_labels():
    features = {
        "sentence": TEXT,
        "label": tfds.features.ClassLabel(names=["no", "yes"]),
        "idx": tfds.features.Scalar(np.int32),
    }
    splits = {"train": examples("train", 20), "validation": examples("validation", 4), "test": examples("test", 6)}
    tiny_set("tiny_open", features, splits)
    found = everything(load("labelled_text", texts="tfds:tiny_open"))
    assert [len(part) for part in found] == [20, 4, 6]
    assert found[1] == [(f"validation {n}", ["no", "yes"][n % 2]) for n in range(4)]
    tiny_set("tiny_hidden", features, splits | {"test": examples("test", 6, hidden=True)})
    found = everything(load("labelled_text", texts="tfds:tiny_hidden"))
    assert [len(part) for part in found] == [17, 4, 3]
    assert {text.split()[0] for text, _ in found[2]} == {"train"}


def test_tfds_features_must_be_a_text_and_a_class():
    tiny_set("tiny_two_texts", {"a": TEXT, "b": TEXT, "label": tfds.features.ClassLabel(num_classes=2)}, {"train": []})
    with pytest.raises(UserError, match="tfds:tiny_two_texts must have one text and one class .* Received: a, b"):
        load("labelled_text", texts="tfds:tiny_two_texts")


def classify(text):
    """Classifies an invented text by rules."""
    [own] = [part for part in text.split(" . ") if re.match("i find|to me|for my part", part)]
    words = own.removesuffix(" .").split()
    return ["negative", "positive"][(words[-1] in WORDS["positive"]) != ("not" in words)]


def test_invented_opinions_are_the_default():
    splits = load("labelled_text")
    found = everything(splits)
    assert [len(part) for part in found] == [3200, 400, 400]
    texts = [row for part in found for row in part]
    assert len({text for text, _ in texts}) == 4000
    assert all(classify(text) == label for text, label in texts)
    assert np.mean([label == "positive" for _, label in texts]) == pytest.approx(0.5, abs=0.03)
    assert np.mean([" not " in text for text, _ in texts]) > 0.3
    assert invent(40, seed=1) == invent(40, seed=1) != invent(40, seed=2)
