"""What runs in a place: through calls, and through what TensorFlow runs in a call's place."""

import pytest
from google.protobuf import text_format
from tensorflow.core.protobuf import meta_graph_pb2

from keras_dl.serving.export.graph import ELSEWHERE, operations_by_place

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
    """y calls the function `kind`; nothing calls `evil`."""
    return text_format.Parse(GRAPH, meta_graph_pb2.MetaGraphDef())


def operations(graph, place=SIGNATURE):
    return {step.node.op for step in operations_by_place(graph)[place]}


def test_what_is_called_and_what_is_not(graph):
    assert operations(graph) == {"PartitionedCall", "Neg"}
    assert {(step.node.op, step.function) for step in operations_by_place(graph)[ELSEWHERE]} == {
        ("Placeholder", ""), ("WriteFile", "evil")
    }  # fmt: skip


def test_a_gradient_is_followed(graph):
    graph.graph_def.library.gradient.add(function_name="kind", gradient_func="evil")
    assert "WriteFile" in operations(graph)


def test_what_implements_the_same_is_followed(graph):
    for function in graph.graph_def.library.function:
        function.attr["api_implements"].s = b"lstm"
    assert "WriteFile" in operations(graph)
    graph.graph_def.library.function[1].attr["api_implements"].s = b"gru"
    assert "WriteFile" not in operations(graph)


def test_an_output_beside_one_that_is_fed(graph):
    """The node runs for it, and so does what it needs."""
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
