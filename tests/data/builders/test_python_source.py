import os
import re
import sys
from pathlib import Path

import pytest

from keras_dl.data import load
from keras_dl.data.builders import python_source
from keras_dl.errors import UserError


def examples(split):
    return [{key: value.decode() for key, value in example.items()} for example in split.as_numpy_iterator()]


@pytest.fixture
def text_file(tmp_path):
    def make(content):
        path = tmp_path / "notes.txt"
        path.write_bytes(content)
        return str(path)

    return make


@pytest.fixture(scope="module")
def standard_library():
    return dict(zip(("train", "validation", "test"), map(examples, load("python_source")), strict=True))


def test_files_are_in_one_split(standard_library):
    names = [example["name"] for split in standard_library.values() for example in split]
    assert len(names) == len(set(names)) > 100
    assert not [name for name in names if {"test", "tests", "site-packages", "encodings"} & set(name.split("/"))]


def test_text_of_the_files_up_to_the_budget(standard_library):
    for split, limit in python_source.CHARACTERS.items():
        taken = standard_library[split]
        assert 0.8 * limit < sum(len(example["text"]) for example in taken) <= limit
        for example in taken:
            whole = Path(os.__file__).parent.joinpath(example["name"]).read_bytes().decode()
            assert whole.startswith(example["text"])
        # Only the last file of a split is cut to the rest of the budget.
        lengths = [len(example["text"]) for example in taken]
        assert max(lengths) == python_source.LONGEST_FILE


def test_the_name_contains_the_python_version():
    name = python_source.PythonSource().builder_config.name
    assert name == "python_{}_{}_{}".format(*sys.version_info)


def test_preparation_is_reproducible(standard_library):
    again = dict(python_source.PythonSource()._split_generators(None)["test"])
    assert again == {example["name"]: example for example in standard_library["test"]}


def test_modules_are_sorted_and_other_files_are_skipped(tmp_path):
    for name in ("b.py", "a/c.py", "test/d.py", "a/tests/e.py", "encodings/f.py", "_sysconfigdata_linux.py", "g.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_text("é = 1\r\n", newline="")
    (tmp_path / "latin.py").write_bytes("é".encode("latin-1"))
    (tmp_path / "empty.py").touch()
    assert list(python_source.modules(tmp_path).items()) == [("a/c.py", "é = 1\r\n"), ("b.py", "é = 1\r\n")]


def test_no_modules(tmp_path):
    with pytest.raises(UserError, match=f"no .py files .* {re.escape(str(tmp_path))}"):
        python_source.modules(tmp_path)


def test_the_split_of_a_file_does_not_depend_on_other_files():
    few = {f"{number}.py": "pass" for number in range(100)}
    many = few | {f"other{number}.py": "pass" for number in range(100)}

    def where(texts):
        return {name: split for split, files in python_source.by_file(texts).items() for name, _ in files}

    assert where(few) == {name: split for name, split in where(many).items() if name in few}


def test_the_budget_is_exact():
    parts = python_source.by_file({f"{number}.py": "x" * 30_000 for number in range(2000)})
    assert {split: sum(len(text) for _, text in files) for split, files in parts.items()} == python_source.CHARACTERS


def test_a_text_file_is_cut_into_consecutive_splits(text_file):
    content = "".join(f"{number} — é\n" for number in range(300))
    train, validation, test = (examples(split)[0] for split in load("python_source", text=text_file(content.encode())))
    assert train["text"] + validation["text"] + test["text"] == content
    assert len(train["text"]) == len(content) * 90 // 100 and train["name"] == "notes.txt"
    assert abs(len(validation["text"]) - len(test["text"])) <= 1


def test_the_name_depends_on_the_content(text_file):
    first = python_source.PythonSource(text=text_file(b"a" * 300)).builder_config.name
    second = python_source.PythonSource(text=text_file(b"b" * 300)).builder_config.name
    assert first != second and first.startswith("text_")


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "at least 200 characters. .*notes.txt has 0"),
        (b"x" * 199, "has 199"),
        (b"one\ntwo\xff" + b"x" * 300, r"notes.txt:2: expected UTF-8 text. Received: byte 0xff"),
    ],
)
def test_invalid_texts(text_file, content, message):
    with pytest.raises(UserError, match=message):
        load("python_source", text=text_file(content))


def test_unreadable_files(tmp_path):
    with pytest.raises(UserError, match="cannot read the text .*absent.txt: No such file"):
        load("python_source", text=str(tmp_path / "absent.txt"))
    with pytest.raises(UserError, match="cannot read the text .*: Is a directory"):
        load("python_source", text=str(tmp_path))


def test_a_custom_configuration(text_file, tmp_path):
    config = python_source.PythonSourceConfig(name="mine", text=text_file(b"ab" * 200))
    builder = python_source.PythonSource(config=config, data_dir=tmp_path)
    builder.download_and_prepare()
    assert examples(builder.as_dataset(split="test")) == [{"text": "ab" * 10, "name": "notes.txt"}]
