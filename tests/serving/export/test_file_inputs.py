"""A vocabulary is read from an asset, and weights from their own file; from nowhere else."""

import keras
import pytest
import tensorflow as tf

from keras_dl.serving.export.traps import graph_traps, read_graph

V1 = tf.compat.v1
LOADING, RESTORING = "on loading", "on restoring the weights"


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    path = tmp_path_factory.mktemp("words") / "words.txt"
    path.write_text("a\nb\n")
    return str(path)


def table_of(words):
    index = tf.lookup.TextFileIndex
    initializer = tf.lookup.TextFileInitializer(words, tf.string, index.WHOLE_LINE, tf.int64, index.LINE_NUMBER)
    return tf.lookup.StaticHashTable(initializer, -1)


@pytest.fixture(scope="module")
def folder(words, tmp_path_factory):
    """By Keras, with a vocabulary in a file and a weight."""
    word = keras.Input((1,), dtype="string", name="word")
    inner = keras.layers.Embedding(3, 2, name="y")(keras.layers.StringLookup(vocabulary=words)(word))
    target = tmp_path_factory.mktemp("keras") / "1"
    keras.Model(word, inner).export(str(target), verbose=False)
    return target


@pytest.fixture
def graph(folder):
    return read_graph(folder)


def unsafe(graph):
    return [(trap.where, trap.what.split()[0]) for trap in graph_traps(graph) if trap.level == "unsafe"]


def function_with(graph, operation):
    (found,) = [
        (function, node) for function in graph.graph_def.library.function for node in function.node_def
        if node.op == operation
    ]  # fmt: skip
    return found


def add_path(nodes):
    made = nodes.add(name="evil", op="Const")
    made.attr["dtype"].type = 7
    made.attr["value"].tensor.CopyFrom(tf.make_tensor_proto("../../../etc/os-release"))


def test_files_of_its_own(graph):
    assert graph.asset_file_def
    assert unsafe(graph) == []


def test_a_vocabulary_of_another_file(graph):
    """The asset is there all the same."""
    function, node = function_with(graph, "InitializeTableFromTextFileV2")
    add_path(function.node_def)
    node.input[1] = "evil:output:0"
    assert unsafe(graph) == [(LOADING, "InitializeTableFromTextFileV2")]


def test_a_call_with_another_path(graph):
    add_path(graph.graph_def.node)
    function, _ = function_with(graph, "InitializeTableFromTextFileV2")
    (call,) = [node for node in graph.graph_def.node if node.attr["f"].func.name == function.signature.name]
    call.input[list(function.signature.input_arg[0].name == each.name for each in function.signature.input_arg).index(
        True)] = "evil"  # fmt: skip
    assert unsafe(graph) == [(LOADING, "InitializeTableFromTextFileV2")]


def test_a_variable_that_is_set_to_another_path(graph):
    add_path(graph.graph_def.node)
    (assign,) = [node for node in graph.graph_def.node if node.op == "AssignVariableOp" and "asset" in node.input[1]]
    graph.graph_def.node.add(name="again", op="AssignVariableOp", input=[assign.input[0], "evil"])
    assert unsafe(graph) == [(LOADING, "InitializeTableFromTextFileV2")]


def test_a_variable_that_another_handle_may_set(graph):
    (assign,) = [node for node in graph.graph_def.node if node.op == "AssignVariableOp" and "asset" in node.input[1]]
    (variable,) = [node for node in graph.graph_def.node if node.name == assign.input[0]]
    graph.graph_def.node.add().CopyFrom(variable)
    graph.graph_def.node[-1].name = "alias"
    assert unsafe(graph) == [(LOADING, "InitializeTableFromTextFileV2")]


def test_an_asset_that_is_another_tensor(graph):
    graph.asset_file_def[0].tensor_info.name = "other:0"
    assert unsafe(graph) == [(LOADING, "InitializeTableFromTextFileV2")]


def test_what_may_run_in_anothers_place(graph):
    function, _ = function_with(graph, "InitializeTableFromTextFileV2")
    function.attr["api_implements"].s = b"lstm"
    assert unsafe(graph) == [(LOADING, "InitializeTableFromTextFileV2")]


def test_weights_of_another_file(graph):
    function, node = function_with(graph, "RestoreV2")
    add_path(function.node_def)
    node.input[0] = "evil:output:0"
    assert unsafe(graph) == [(RESTORING, "RestoreV2")]


@pytest.mark.parametrize("asset", [True, False])
def test_a_vocabulary_of_tensorflow_1(words, tmp_path, asset):
    with tf.Graph().as_default(), V1.Session() as session:
        table, x = table_of(words), V1.placeholder(tf.string, name="x")
        weight = V1.get_variable("weight", initializer=1.0)
        y = tf.cast(table.lookup(x), tf.float32) * weight
        session.run([V1.global_variables_initializer(), V1.tables_initializer()])
        paths = V1.get_collection(V1.GraphKeys.ASSET_FILEPATHS) if asset else None
        tensor = V1.saved_model.utils.build_tensor_info
        signature = V1.saved_model.build_signature_def({"x": tensor(x)}, {"y": tensor(y)})
        builder = V1.saved_model.Builder(str(tmp_path / "1"))
        builder.add_meta_graph_and_variables(
            session, ["serve"], {"serving_default": signature}, assets_collection=paths, main_op=V1.tables_initializer()
        )
        builder.save()
    expected = [] if asset else [(LOADING, "InitializeTableFromTextFileV2")]
    assert unsafe(read_graph(tmp_path / "1")) == expected
