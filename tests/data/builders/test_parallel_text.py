"""Tests of parallel text: file formats, disjoint splits, and TensorFlow Datasets."""

import numpy as np
import pytest
import tensorflow_datasets as tfds

from keras_dl.data import load
from keras_dl.errors import UserError

from ..tiny_sets import tiny_set

TEXT = tfds.features.Text()
PAIRS = [(f"satz {n} ä", f"sentence {n}") for n in range(200)]


def rows(split):
    return sorted((e["source"].decode(), e["target"].decode()) for e in split.as_numpy_iterator())


def write(path, lines):
    path.write_bytes("\n".join(lines).encode() + b"\n")
    return str(path)


@pytest.fixture
def two_files(tmp_path):
    source = write(tmp_path / "text.de", [source for source, _ in PAIRS])
    return f"{source},{write(tmp_path / 'text.en', [target for _, target in PAIRS])}"


def test_one_file_and_two_files_give_the_same_pairs(tmp_path, two_files):
    table = write(tmp_path / "pairs.tsv", [f"{source}\t{target}\tCC-BY some one" for source, target in PAIRS])
    one, two = load("parallel_text", pairs=table), load("parallel_text", pairs=two_files)
    found = [rows(split) for split in one]
    assert found == [rows(split) for split in two]
    assert [len(part) for part in found] == [180, 10, 10]
    assert sorted(sum(found, [])) == sorted(PAIRS)


def test_splits_do_not_depend_on_the_order_of_lines(tmp_path):
    generator = np.random.default_rng(0)
    lines = [f"{source}\t{target}" for source, target in PAIRS]
    one = load("parallel_text", pairs=write(tmp_path / "a.tsv", lines))
    two = load("parallel_text", pairs=write(tmp_path / "b.tsv", list(generator.permutation(lines))))
    assert [rows(split) for split in one] == [rows(split) for split in two]


def test_sources_are_in_one_split_and_pairs_are_distinct(tmp_path):
    lines = [f"{source}\t{target}" for source, target in PAIRS] * 2
    lines += [f"{source}\tanother {target}" for source, target in PAIRS]
    found = [rows(split) for split in load("parallel_text", pairs=write(tmp_path / "pairs.tsv", lines))]
    assert [len(part) for part in found] == [360, 20, 20]
    sources = [{source for source, _ in part} for part in found]
    assert len(set().union(*sources)) == sum(map(len, sources)) == 200


def test_incomplete_and_duplicate_pairs_are_dropped_and_counted(tmp_path, capsys):
    lines = [f"{source}\t{target}" for source, target in PAIRS]
    lines[5:5] = ["", "\tonly right", "only left\t  ", "   ", lines[0]]
    path = write(tmp_path / "pairs.tsv", lines)
    assert sum(len(rows(split)) for split in load("parallel_text", pairs=path)) == 200
    printed = capsys.readouterr().err
    assert f"{path}: dropped 4 incomplete pairs\n" in printed
    assert f"{path}: dropped 1 duplicate pair\n" in printed


def test_files_of_different_length(tmp_path, two_files):
    (tmp_path / "text.en").write_text("one\ntwo\n")
    with pytest.raises(UserError, match=r"the same number of lines. Received: .*text.de 200 and .*text.en 2$"):
        load("parallel_text", pairs=two_files)


def test_invalid_bytes_are_reported_with_file_and_line(tmp_path, two_files):
    content = (tmp_path / "text.en").read_bytes().replace(b"sentence 41\n", b"sent\xffence 41\n")
    (tmp_path / "text.en").write_bytes(content)
    with pytest.raises(UserError, match=r"text.en:42: expected UTF-8 text. Received: byte 0xff"):
        load("parallel_text", pairs=two_files)


def test_lines_without_a_tab_are_reported(tmp_path):
    lines = [f"{source}\t{target}" for source, target in PAIRS]
    with pytest.raises(UserError, match=r"pairs.tsv:4: expected SOURCE<tab>TARGET. Received: 'no tab'"):
        load("parallel_text", pairs=write(tmp_path / "pairs.tsv", [*lines[:3], "no tab", *lines]))


def test_invalid_pairs(tmp_path):
    with pytest.raises(UserError, match="requires pairs=FILE"):
        load("parallel_text")
    with pytest.raises(UserError, match="cannot read the text .*missing.tsv: No such file"):
        load("parallel_text", pairs=str(tmp_path / "missing.tsv"))
    with pytest.raises(UserError, match="one file of pairs, or two files separated by a comma. Received: a,b,c"):
        load("parallel_text", pairs="a,b,c")
    few = write(tmp_path / "few.tsv", [f"{n}\t{n}" for n in range(19)] + ["1\t2"])
    with pytest.raises(UserError, match="at least 20 distinct texts with a translation. .*few.tsv has 19"):
        load("parallel_text", pairs=few)


def test_tfds_splits_are_kept():
    splits = {
        split: [{"no": f"{split} nei {n}", "en": f"{split} no {n}"} for n in range(count)]
        for split, count in {"train": 7, "validation": 3, "test": 2}.items()
    }
    tiny_set("tiny_translation", tfds.features.Translation(["en", "no"]), splits, ("no", "en"))
    found = load("parallel_text", pairs="tfds:tiny_translation")
    for split, part in zip(("train", "validation", "test"), found, strict=True):
        assert rows(part) == sorted((row["no"], row["en"]) for row in splits[split])


def test_missing_tfds_splits_are_taken_from_the_training_split():
    splits = {"train": [{"a": f"a {n}", "b": f"b {n}"} for n in range(20)]}
    tiny_set("tiny_pairs", {"a": TEXT, "b": TEXT}, splits, ("a", "b"))
    found = [rows(split) for split in load("parallel_text", pairs="tfds:tiny_pairs")]
    assert [len(part) for part in found] == [14, 3, 3]
    assert len(set(sum(found, []))) == 20


@pytest.mark.parametrize(
    ("features", "keys"), [({"a": TEXT}, None), ({"a": TEXT, "b": tfds.features.Scalar(np.int64)}, ("a", "b"))]
)
def test_tfds_features_must_be_two_texts(features, keys):
    name = f"tiny_no_pairs_{len(features)}"
    tiny_set(name, features, {"train": []}, keys)
    with pytest.raises(UserError, match=f"tfds:{name} is not a set of text pairs. Its features: a"):
        load("parallel_text", pairs=f"tfds:{name}")
