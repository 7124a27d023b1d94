"""Traps of SavedModels: each is reported with its place and fix, and nothing else is."""

import shutil

import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from keras_dl.serving.export.traps import Trap, find_traps, read_graph
from keras_dl.serving.export.warmup import WARMUP

X = tf.TensorSpec([None], tf.float32, name="x")


def save(folder, *signature, with_module=lambda module: None, **others):
    """Writes a SavedModel of functions of x, the first as serving_default, with a weight and warm-up requests."""
    module = tf.Module()
    module.weight = tf.Variable([1.0, 2.0, 3.0])
    functions = {"serving_default": signature[0]} if signature else {}
    module.functions = {
        name: tf.function(function, input_signature=[X]) for name, function in {**functions, **others}.items()
    }
    with_module(module)
    tf.saved_model.save(module, str(folder), signatures=dict(module.functions))
    (folder / WARMUP).parent.mkdir()
    (folder / WARMUP).touch()
    return folder


def change(folder, edit):
    """Edits the graph of a SavedModel on disk."""
    path = folder / "saved_model.pb"
    saved = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    edit(saved.meta_graphs[0])
    path.write_bytes(saved.SerializeToString())
    return folder


def found(folder):
    """Returns (level, where, first word of what) of each trap."""
    return [(trap.level, trap.where, trap.what.split()[0]) for trap in find_traps(folder)]


DEFAULT = "signature 'serving_default'"


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return save(tmp_path_factory.mktemp("plain") / "1", lambda x: {"y": x * 2})


@pytest.fixture
def copy(plain, tmp_path):
    return shutil.copytree(plain, tmp_path / "copy")


def test_a_model_without_traps(plain):
    assert find_traps(plain) == []


def test_reading_and_writing_the_models_weights_is_safe(plain):
    operations = {node.op for each in read_graph(plain).graph_def.library.function for node in each.node_def}
    assert {"SaveV2", "RestoreV2", "MergeV2Checkpoints"} <= operations


def test_a_vocabulary_stored_as_an_asset_is_safe(tmp_path):
    (tmp_path / "words.txt").write_text("a\nb\n")
    initializer = tf.lookup.TextFileInitializer(
        str(tmp_path / "words.txt"),
        tf.string,
        tf.lookup.TextFileIndex.WHOLE_LINE,
        tf.int64,
        tf.lookup.TextFileIndex.LINE_NUMBER,
    )
    table = tf.lookup.StaticHashTable(initializer, -1)

    def look_up(x):
        return {"y": table.lookup(tf.strings.as_string(x))}

    folder = save(tmp_path / "1", look_up, with_module=lambda module: setattr(module, "table", table))
    assert find_traps(folder) == []
    (folder / "assets" / "words.txt").unlink()
    assert found(folder) == [("error", "assets/words.txt", "the")]
    change(folder, lambda graph: setattr(graph.asset_file_def[0], "filename", "../words.txt"))
    assert found(folder)[0] == ("unsafe", "asset ../words.txt", "it")


# ---------------------------------------------------------------------------- operations


def write(x):
    with tf.control_dependencies([tf.io.write_file("owned", "x")]):
        return {"y": x + 1}


def read(x):
    return {"y": tf.io.read_file(tf.strings.as_string(x[0]))}


def python(x):
    return {"y": tf.numpy_function(lambda x: x, [x], tf.float32)}


def log_to_a_file(x):
    with tf.control_dependencies([tf.print(x, output_stream="file:///tmp/owned")]):
        return {"y": x + 1}


def cache(name):
    def answer(x):
        return {"y": tf.data.Dataset.from_tensors(x).cache(name).get_single_element()}

    return answer


def shout(x):
    with tf.control_dependencies([tf.print(x)]):
        return {"y": x + 1}


def switched(x):
    return {"y": tf.switch_case(tf.size(x), [lambda: "", lambda: tf.io.read_file("name"), lambda: "other"])}


def deep(x):
    """Reads a file inside a function, in a branch, in a loop."""
    inner = tf.function(lambda x: tf.cond(x[0] > 0, lambda: tf.io.read_file("name"), lambda: ""))
    _, last = tf.while_loop(lambda i, _: i < 3, lambda i, _: (i + 1, inner(x)), [0, ""])
    return {"y": last}


@pytest.mark.parametrize(
    ("function", "level", "operation"),
    [
        (write, "unsafe", "WriteFile"),
        (read, "unsafe", "ReadFile"),
        (python, "unsafe", "PyFunc"),
        (deep, "unsafe", "ReadFile"),
        (switched, "unsafe", "ReadFile"),
        (lambda x: {"y": tf.io.matching_files(tf.strings.as_string(x[0]))}, "unsafe", "MatchingFiles"),
        (lambda x: {"y": tf.raw_ops.RestoreV2(prefix="p", tensor_names=["t"], shape_and_slices=[""],
                                              dtypes=[tf.float32])[0]}, "unsafe", "RestoreV2"),
        (lambda x: {"y": tf.raw_ops.DebugIdentityV2(input=x, debug_urls=["file:///tmp/x"])}, "unsafe",
         "DebugIdentityV2"),
        (lambda x: {"y": tf.data.TextLineDataset(tf.strings.as_string(x)).batch(9).get_single_element()}, "unsafe",
         "TextLineDataset"),
        (lambda x: {"y": tf.raw_ops.CudnnRNN(input=x[None, None], input_h=x[None, None], input_c=x[None, None],
                                             params=x)[0]}, "error", "CudnnRNN"),
        (shout, "warning", "PrintV2"),
        (log_to_a_file, "unsafe", "PrintV2"),
        (cache("/tmp/owned"), "unsafe", "CacheDatasetV2"),
    ],
)  # fmt: skip
def test_operations_that_a_server_should_not_run(tmp_path, function, level, operation):
    assert (level, DEFAULT, operation) in found(save(tmp_path / "1", function))


def test_a_cache_in_memory_is_safe(tmp_path):
    assert found(save(tmp_path / "1", cache(""))) == []


def test_only_the_signature_with_the_operation_is_reported(tmp_path):
    folder = save(tmp_path / "1", lambda x: {"y": x + 1}, other=read)
    assert found(folder) == [("unsafe", "signature 'other'", "ReadFile")]


def test_an_operation_in_no_signature(tmp_path):
    def add(module):
        module.hidden = tf.function(write, input_signature=[X])

    assert found(save(tmp_path / "1", lambda x: {"y": x + 1}, with_module=add)) == [
        ("unsafe", "in no signature", "WriteFile")
    ]


def test_an_operation_that_runs_on_loading(plain, copy):

    def edit(graph):
        node = graph.graph_def.node.add(name="evil", op="WriteFile")
        node.input.extend(["saver_filename", "saver_filename"])
        init = graph.signature_def["__saved_model_init_op"].outputs["__saved_model_init_op"].name
        next(node for node in graph.graph_def.node if node.name == init).input.append("^evil")

    assert found(change(copy, edit)) == [("unsafe", "on loading", "WriteFile")]


def test_an_operation_that_runs_on_restoring_the_weights(copy):
    def edit(graph):
        (restore,) = [each for each in graph.graph_def.library.function if "traced_restore" in each.signature.name]
        restore.node_def.add(name="evil", op="WriteFile")

    assert found(change(copy, edit)) == [("unsafe", "on restoring the weights", "WriteFile")]


def test_an_operation_that_computes_a_fed_tensor_does_not_run(tmp_path):
    """A graph of TensorFlow 1 may still contain the operations that read its training data."""
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        content = tf.io.read_file("train.txt")
        x = tf.strings.to_number(content)
        tf.compat.v1.saved_model.simple_save(session, str(tmp_path / "1"), {"x": x}, {"y": x * 2})
    assert [trap for trap in found(tmp_path / "1") if trap[0] != "warning"] == []
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        x = tf.compat.v1.placeholder(tf.float32, name="x")
        y = tf.strings.to_number(tf.io.read_file("train.txt"))
        tf.compat.v1.saved_model.simple_save(session, str(tmp_path / "2"), {"x": x}, {"y": x * y})
    assert ("unsafe", DEFAULT, "ReadFile") in found(tmp_path / "2")


def test_a_function_that_requires_xla(tmp_path):
    inner = tf.function(lambda x: x * 2, jit_compile=True)
    folder = save(tmp_path / "1", lambda x: {"y": inner(x) + 1}, plain=lambda x: {"y": x})
    assert find_traps(folder) == [
        Trap("error", DEFAULT, "a function requires XLA, which TensorFlow Serving's binary does not include",
             "export a function without jit_compile=True")
    ]  # fmt: skip


def test_an_operation_unknown_to_tensorflow(copy):
    def edit(graph):
        for function in graph.graph_def.library.function:
            for node in function.node_def:
                node.op = "MyKernel" if node.op == "Mul" else node.op

    assert found(change(copy, edit)) == [("error", DEFAULT, "MyKernel")]


# ---------------------------------------------------------------------------- signatures


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [(tf.float16, "it is float16"), (tf.bfloat16, "it is bfloat16"), (tf.complex64, "it is complex64")],
)
def test_dtypes_that_json_does_not_support(tmp_path, dtype, expected):
    (trap,) = find_traps(save(tmp_path / "1", lambda x: {"y": tf.cast(x, dtype)}))
    assert (trap.level, trap.where) == ("error", f"output y of {DEFAULT}")
    assert trap.what.startswith(expected)


def test_ragged_and_sparse_outputs(tmp_path):
    folder = save(tmp_path / "1", lambda x: {"y": tf.RaggedTensor.from_row_lengths(x, [tf.size(x)])})
    assert found(folder) == [("error", f"output y of {DEFAULT}", "it")]
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        x = tf.compat.v1.sparse_placeholder(tf.float32, name="x")
        tf.compat.v1.saved_model.simple_save(session, str(tmp_path / "2"), {"x": x}, {"y": tf.sparse.to_dense(x)})
    assert ("error", f"input x of {DEFAULT}", "it") in found(tmp_path / "2")


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ([None, None, 3], []),
        ([None, 5], []),
        (None, []),
        ([None, 5, 3], ["its axis 1 is fixed to 5"]),
        ([1, None, 3], ["its batch axis is fixed to 1"]),
        ([2, 5, 3], ["its batch axis is fixed to 2", "its axis 1 is fixed to 5"]),
    ],
)
def test_axes_of_fixed_size(copy, shape, expected):
    def edit(graph):
        form = graph.signature_def["serving_default"].inputs["x"].tensor_shape
        form.CopyFrom(tf.TensorShape(shape).as_proto())

    traps = find_traps(change(copy, edit))
    assert [(trap.level, trap.what) for trap in traps] == [("warning", text) for text in expected]


@pytest.mark.parametrize("name", ["keras_tensor", "keras_tensor_19", "args_0", "input_1", "input_layer_2", "signal"])
def test_generated_input_names(copy, name):
    def edit(graph):
        inputs = graph.signature_def["serving_default"].inputs
        inputs[name].CopyFrom(inputs["x"])
        del inputs["x"]

    expected = [] if name == "signal" else [("warning", f"input {name} of {DEFAULT}", "its")]
    assert found(change(copy, edit)) == expected


def test_generated_output_names(tmp_path):
    assert found(save(tmp_path / "1", lambda x: x * 2)) == [("warning", f"output output_0 of {DEFAULT}", "its")]


def test_no_default_signature(tmp_path):
    (trap,) = find_traps(save(tmp_path / "1", logits=lambda x: {"y": x * 2}))
    assert (trap.level, trap.where) == ("warning", "the signatures")
    assert "available: logits" in trap.fix


def test_paths_on_this_machine(tmp_path):
    (tmp_path / "words.txt").touch()
    paths = [str(tmp_path / "words.txt"), str(tmp_path / "not there"), "/etc/passwd"]
    texts = ["/nowhere/on/this/machine", "a/b", "//", "/", "/s/", "/etc/", "/* comment */", f"/{'A' * 300}/x", "/\0/x"]
    folder = save(tmp_path / "1", lambda x: {"y": tf.stack(paths), "z": tf.stack([tf.constant([t]) for t in texts])})
    traps = find_traps(folder)
    assert [trap.level for trap in traps] == ["warning"] * len(paths)
    assert all(any(trap.what.endswith(path) for trap in traps) for path in paths)
    assert "asset" in traps[0].fix
