"""Models run in a process of their own, which knows nothing of keras_dl, and which nothing can take down with it."""

import ast
import os
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from keras_dl.serving.export import clean, clean_worker
from keras_dl.serving.export.clean import ModelFailed, clean_process


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    module = tf.Module()
    module.weight = tf.Variable(2.0)
    x, text = tf.TensorSpec(None, tf.float32, name="x"), tf.TensorSpec(None, tf.string, name="text")
    ten = tf.TensorSpec([None], tf.float32, name="x")

    def checked(x):
        tf.debugging.assert_less(x, 10.0, "x must be below 10")
        return {"y": x}

    def shout(x):
        with tf.control_dependencies([tf.print("no answer", output_stream=sys.stdout)]):
            return {"y": x + 1}

    functions = {
        "shout": tf.function(shout, input_signature=[x]),
        "serving_default": tf.function(lambda x: {"y": x * module.weight}, input_signature=[x]),
        "checked": tf.function(checked, input_signature=[ten]),
        "text": tf.function(lambda text: {"text": text, "n": tf.strings.length(text)}, input_signature=[text]),
        "python": tf.function(
            lambda x: {"y": tf.numpy_function(lambda x: x, [x], tf.float32)}, input_signature=[x]
        ),
    }  # fmt: skip
    module.functions = functions
    target = tmp_path_factory.mktemp("models") / "1"
    tf.saved_model.save(module, str(target), signatures=dict(functions))
    return target


@pytest.fixture
def process(folder):
    with clean_process() as process:
        process.load(folder)
        yield process


def test_it_imports_nothing_but_tensorflow_and_numpy():
    tree = ast.parse(Path(clean_worker.__file__).read_text())
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in names} - {"tensorflow", "numpy"} <= sys.stdlib_module_names
    assert not {"pickle", "marshal", "importlib"} & names


@pytest.mark.parametrize("x", [np.float32(3), np.ones((2, 0), "float32"), np.array([[1.5, np.nan]], "float32")])
def test_numbers_go_and_come(process, x):
    answer = process.answer("serving_default", {"x": np.asarray(x)})["y"]
    assert answer.dtype == np.float32
    np.testing.assert_array_equal(answer, np.asarray(x) * 2)


@pytest.mark.parametrize("text", [b"h\xc3\xa4\xff\x00", [b"", b"two\nlines"], [[b"a"]]])
def test_texts_go_and_come(process, text):
    array = np.array(text, object)
    answer = process.answer("text", {"text": array})
    assert answer["text"].tolist() == array.tolist()
    assert answer["n"].shape == array.shape


def test_an_error_of_the_model_is_told_and_the_process_goes_on(process):
    with pytest.raises(ModelFailed, match="x must be below 10"):
        process.answer("checked", {"x": np.array([11], "float32")})
    with pytest.raises(ModelFailed, match="Could not find callback with key=pyfunc"):
        process.answer("python", {"x": np.ones(1, "float32")})
    assert process.answer("checked", {"x": np.array([1], "float32")})["y"] == [1]


def test_names_that_it_has_not(process):
    with pytest.raises(ModelFailed, match="there is no signature 'other'"):
        process.answer("other", {"x": np.float32(1)})
    with pytest.raises(ModelFailed, match="its inputs are x. Received: x, z"):
        process.answer("serving_default", {"x": np.float32(1), "z": np.float32(1)})


def test_what_a_model_prints_is_no_answer(process):
    assert process.answer("shout", {"x": np.float32(1)})["y"] == 2
    assert process.answer("serving_default", {"x": np.float32(1)})["y"] == 2


def test_a_model_that_is_not_there(process, tmp_path, folder):
    with pytest.raises(ModelFailed, match="SavedModel file does not exist"):
        process.load(tmp_path)
    process.load(folder)
    assert process.answer("serving_default", {"x": np.float32(1)})["y"] == 2


def test_there_is_one_process_and_threads_take_turns(folder):
    seen, wrong = set(), []

    def ask(number):
        with clean_process() as process:
            seen.add(id(process))
            process.load(folder)
            for value in range(20):
                if process.answer("serving_default", {"x": np.float32(number * value)})["y"] != 2 * number * value:
                    wrong.append(number)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(seen) == 1
    assert wrong == []


def test_it_runs_elsewhere_without_our_settings_and_the_gpu(process):
    pid = process._process.pid
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    assert os.getsid(pid) == pid  # Ctrl-C in the terminal does not reach it
    environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    assert b"CUDA_VISIBLE_DEVICES=" in environment
    assert not [each for each in environment if each.startswith(b"PYTHON")]
    assert "-I" in Path(f"/proc/{pid}/cmdline").read_text().split("\0")


def test_a_forked_child_does_not_talk_to_ours(process):
    pid = os.fork()
    if not pid:
        os._exit(0 if clean._running is None else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert process.answer("serving_default", {"x": np.float32(1)})["y"] == 2


def test_when_it_dies_that_is_an_error_and_the_next_one_is_new(folder):
    """Last, for the next process takes seconds to begin."""
    with clean_process() as process:
        process.load(folder)
        process._process.kill()
        with pytest.raises(ModelFailed, match="the process that ran it ended with status -9"):
            process.answer("serving_default", {"x": np.float32(1)})
        assert not process.is_running()
        with pytest.raises(ModelFailed, match="the process that ran it ended with status -9"):
            process.answer("serving_default", {"x": np.float32(1)})
    with clean_process() as other:
        assert other is not process
        other.load(folder)
        assert other.answer("serving_default", {"x": np.float32(1)})["y"] == 2
