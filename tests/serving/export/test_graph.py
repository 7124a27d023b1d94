"""The operations that run in each place, and the origin of the file names that they read."""

import keras
import pytest
import tensorflow as tf
from google.protobuf import text_format
from tensorflow.core.protobuf import meta_graph_pb2

from keras_dl.serving.export.graph import ELSEWHERE, LOADING, RESTORING, operations_by_place
from keras_dl.serving.export.traps import graph_traps, read_graph

V1 = tf.compat.v1

SIGNATURE = "signature 'serving_default'"
GRAPH = """
graph_def {
  node { name: "x" op: "Placeholder" }
  node { name: "y" op: "PartitionedCall" input: "x" attr { key: "f" value { func { name: "kind" } } } }
  library {
    function { signature { name: "kind" } node_def { name: "n" op: "Neg" } }
    function { signature { name: "evil" } node_def { name: "n" op: "WriteFile" } }
  }
}
signature_def {
  key: "serving_default"
  value { inputs { key: "x" value { name: "x:0" } } outputs { key: "y" value { name: "y:0" } } }
}
"""


@pytest.fixture
def graph():
    """y calls the function `kind`; no node calls `evil`."""
    return text_format.Parse(GRAPH, meta_graph_pb2.MetaGraphDef())


def operations(graph, place=SIGNATURE):
    return {step.node.op for step in operations_by_place(graph)[place]}


def test_functions_that_are_called_and_not_called(graph):
    assert operations(graph) == {"PartitionedCall", "Neg"}
    assert {(step.node.op, step.function) for step in operations_by_place(graph)[ELSEWHERE]} == {
        ("Placeholder", ""), ("WriteFile", "evil")
    }  # fmt: skip


def test_gradients_are_included(graph):
    graph.graph_def.library.gradient.add(function_name="kind", gradient_func="evil")
    assert "WriteFile" in operations(graph)


def test_alternative_implementations_are_included(graph):
    for function in graph.graph_def.library.function:
        function.attr["api_implements"].s = b"lstm"
    assert "WriteFile" in operations(graph)
    graph.graph_def.library.function[1].attr["api_implements"].s = b"gru"
    assert "WriteFile" not in operations(graph)


def test_another_output_of_a_fed_node(graph):
    """The node and its inputs run for it."""
    graph.graph_def.node.add(name="two", op="Unpack", input=["file"])
    graph.graph_def.node.add(name="file", op="ReadFile")
    signature = graph.signature_def["serving_default"]
    signature.inputs["x"].name = "two:0"
    signature.outputs["y"].name = "two:0"
    assert operations(graph) == set()
    for other in ("two:1", "after"):
        graph.graph_def.node.add(name="after", op="NoOp", input=["^two"])
        signature.outputs["y"].name = other
        assert {"Unpack", "ReadFile"} <= operations(graph)


# ---------------------------------------------------------------------------- the origin of file names


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
    """A model exported by Keras with a weight and a vocabulary in a file."""
    word = keras.Input((1,), dtype="string", name="word")
    inner = keras.layers.Embedding(3, 2, name="y")(keras.layers.StringLookup(vocabulary=words)(word))
    target = tmp_path_factory.mktemp("keras") / "1"
    keras.Model(word, inner).export(str(target), verbose=False)
    return target


@pytest.fixture
def vocabulary_graph(folder):
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


def test_the_models_own_files_are_safe(vocabulary_graph):
    assert vocabulary_graph.asset_file_def
    assert unsafe(vocabulary_graph) == []


def test_a_vocabulary_from_another_file(vocabulary_graph):
    """The asset still exists."""
    function, node = function_with(vocabulary_graph, "InitializeTableFromTextFileV2")
    add_path(function.node_def)
    node.input[1] = "evil:output:0"
    assert unsafe(vocabulary_graph) == [(LOADING, "InitializeTableFromTextFileV2")]


def test_a_call_with_another_path(vocabulary_graph):
    add_path(vocabulary_graph.graph_def.node)
    function, _ = function_with(vocabulary_graph, "InitializeTableFromTextFileV2")
    (call,) = [node for node in vocabulary_graph.graph_def.node if node.attr["f"].func.name == function.signature.name]
    call.input[list(function.signature.input_arg[0].name == each.name for each in function.signature.input_arg).index(
        True)] = "evil"  # fmt: skip
    assert unsafe(vocabulary_graph) == [(LOADING, "InitializeTableFromTextFileV2")]


def test_a_variable_assigned_another_path(vocabulary_graph):
    add_path(vocabulary_graph.graph_def.node)
    (assign,) = [
        node for node in vocabulary_graph.graph_def.node if node.op == "AssignVariableOp" and "asset" in node.input[1]
    ]
    vocabulary_graph.graph_def.node.add(name="again", op="AssignVariableOp", input=[assign.input[0], "evil"])
    assert unsafe(vocabulary_graph) == [(LOADING, "InitializeTableFromTextFileV2")]


def test_a_variable_with_a_second_handle(vocabulary_graph):
    (assign,) = [
        node for node in vocabulary_graph.graph_def.node if node.op == "AssignVariableOp" and "asset" in node.input[1]
    ]
    (variable,) = [node for node in vocabulary_graph.graph_def.node if node.name == assign.input[0]]
    vocabulary_graph.graph_def.node.add().CopyFrom(variable)
    vocabulary_graph.graph_def.node[-1].name = "alias"
    assert unsafe(vocabulary_graph) == [(LOADING, "InitializeTableFromTextFileV2")]


def test_an_asset_of_another_tensor(vocabulary_graph):
    vocabulary_graph.asset_file_def[0].tensor_info.name = "other:0"
    assert unsafe(vocabulary_graph) == [(LOADING, "InitializeTableFromTextFileV2")]


def test_a_function_that_may_replace_another(vocabulary_graph):
    function, _ = function_with(vocabulary_graph, "InitializeTableFromTextFileV2")
    function.attr["api_implements"].s = b"lstm"
    assert unsafe(vocabulary_graph) == [(LOADING, "InitializeTableFromTextFileV2")]


def test_weights_from_another_file(vocabulary_graph):
    function, node = function_with(vocabulary_graph, "RestoreV2")
    add_path(function.node_def)
    node.input[0] = "evil:output:0"
    assert unsafe(vocabulary_graph) == [(RESTORING, "RestoreV2")]


@pytest.mark.parametrize("asset", [True, False])
def test_a_vocabulary_in_a_tensorflow_1_model(words, tmp_path, asset):
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
