"""The child process that runs models without keras_dl, and survives their errors."""

import ast
import os
import sys
import types
from concurrent.futures import ThreadPoolExecutor
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
        with tf.control_dependencies([tf.print("not an answer", output_stream=sys.stdout)]):
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


def test_the_worker_imports_only_tensorflow_and_numpy():
    tree = ast.parse(Path(clean_worker.__file__).read_text())
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in names} - {"tensorflow", "numpy"} <= sys.stdlib_module_names
    assert not {"pickle", "marshal", "importlib"} & names


@pytest.mark.parametrize("x", [np.float32(3), np.ones((2, 0), "float32"), np.array([[1.5, np.nan]], "float32")])
def test_numbers_survive_a_round_trip(process, x):
    answer = process.answer("serving_default", {"x": np.asarray(x)})["y"]
    assert answer.dtype == np.float32
    np.testing.assert_array_equal(answer, np.asarray(x) * 2)


@pytest.mark.parametrize("text", [b"h\xc3\xa4\xff\x00", [b"", b"two\nlines"], [[b"a"]]])
def test_strings_survive_a_round_trip(process, text):
    array = np.array(text, object)
    answer = process.answer("text", {"text": array})
    assert answer["text"].tolist() == array.tolist()
    assert answer["n"].shape == array.shape


def test_an_error_of_the_model_does_not_end_the_process(process):
    with pytest.raises(ModelFailed, match="x must be below 10"):
        process.answer("checked", {"x": np.array([11], "float32")})
    with pytest.raises(ModelFailed, match="Could not find callback with key=pyfunc"):
        process.answer("python", {"x": np.ones(1, "float32")})
    assert process.answer("checked", {"x": np.array([1], "float32")})["y"] == [1]


def test_unknown_names(process):
    with pytest.raises(ModelFailed, match="no signature 'other'"):
        process.answer("other", {"x": np.float32(1)})
    with pytest.raises(ModelFailed, match="expected the inputs x. Received: x, z"):
        process.answer("serving_default", {"x": np.float32(1), "z": np.float32(1)})


def test_a_model_may_print_to_standard_output(process):
    assert process.answer("shout", {"x": np.float32(1)})["y"] == 2
    assert process.answer("serving_default", {"x": np.float32(1)})["y"] == 2


def test_a_missing_model(process, tmp_path, folder):
    with pytest.raises(ModelFailed, match="SavedModel file does not exist"):
        process.load(tmp_path)
    process.load(folder)
    assert process.answer("serving_default", {"x": np.float32(1)})["y"] == 2


def test_threads_share_one_process(folder):
    seen, wrong = set(), []

    def ask(number):
        with clean_process() as process:
            seen.add(id(process))
            process.load(folder)
            for value in range(20):
                if process.answer("serving_default", {"x": np.float32(number * value)})["y"] != 2 * number * value:
                    wrong.append(number)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(ask, range(4)))
    assert len(seen) == 1
    assert wrong == []


def test_the_process_has_its_own_folder_session_and_environment(process):
    pid = process._process.pid
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    assert os.getsid(pid) == pid  # so Ctrl-C in the terminal does not reach it
    environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    assert b"CUDA_VISIBLE_DEVICES=" in environment
    assert not [each for each in environment if each.startswith(b"PYTHON")]
    assert "-I" in Path(f"/proc/{pid}/cmdline").read_text().split("\0")


def test_a_forked_child_does_not_use_the_process(process):
    pid = os.fork()
    if not pid:
        os._exit(0 if clean._running is None else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert process.answer("serving_default", {"x": np.float32(1)})["y"] == 2


@pytest.fixture
def fast_worker(tmp_path, monkeypatch):
    """Replaces the worker with one that does not spend seconds importing TensorFlow."""
    worker = tmp_path / "worker.py"
    worker.write_text("import sys\nfor line in sys.stdin:\n    print('{\"outputs\": {}}', flush=True)\n")
    monkeypatch.setattr(clean_worker, "__file__", str(worker))
    monkeypatch.setattr(clean, "_running", None)


def test_ctrl_c_during_a_request_ends_the_process(fast_worker):
    """Otherwise the next request would read the answer to this one."""

    def readline():
        raise KeyboardInterrupt

    with clean_process() as process:
        stdout = process._process.stdout
        process._process.stdout = types.SimpleNamespace(readline=readline, close=stdout.close)
        with pytest.raises(KeyboardInterrupt):
            process.answer("serving_default", {})
        assert not process.is_running()


def test_a_process_that_died_is_replaced(fast_worker):
    with clean_process() as process:
        assert process.answer("serving_default", {}) == {}
        process._process.kill()
        for _ in range(2):
            with pytest.raises(ModelFailed, match="the process ended with status -9"):
                process.answer("serving_default", {})
            assert not process.is_running()
    with clean_process() as other:
        assert other is not process
        assert other.answer("serving_default", {}) == {}
    other.close()
