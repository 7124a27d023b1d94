"""Which operations of a SavedModel run, and when: read from its graph, nothing is loaded."""

from collections.abc import Iterable, Mapping

from tensorflow.core.framework import graph_pb2, node_def_pb2
from tensorflow.core.protobuf import meta_graph_pb2

LOADING, SAVING, ELSEWHERE = "on loading", "on saving", "in no signature"
_INIT_OP = "__saved_model_init_op"
_INIT_COLLECTIONS = ("saved_model_main_op", "legacy_init_op")

Nodes = list[node_def_pb2.NodeDef]


def operations_by_place(graph: meta_graph_pb2.MetaGraphDef) -> dict[str, Nodes]:
    """The nodes that run in each place, those of the functions that they call among them.

    Args:
        graph: of a SavedModel.

    Returns:
        The nodes for each of: `"signature 'NAME'"`; `LOADING`, with what restores the weights; `SAVING`, which no
        server does; `ELSEWHERE`, the rest. A node may run in several places.
    """
    main = _Main(graph.graph_def)
    saver = graph.saver_def
    places = {}
    for name, signature in sorted(graph.signature_def.items()):
        if name != _INIT_OP:
            fed = [info.name for info in signature.inputs.values()]
            places[f"signature {name!r}"] = main.reached(_tensors(signature.outputs), fed)
    there = [name for name in _INIT_COLLECTIONS if name in graph.collection_def]  # reading a map's key would make it
    init = [node for name in there for node in graph.collection_def[name].node_list.value]
    if _INIT_OP in graph.signature_def:
        init += [info.name for info in graph.signature_def[_INIT_OP].outputs.values()]
    places[LOADING] = main.reached([*init, saver.restore_op_name], [saver.filename_tensor_name])
    places[SAVING] = main.reached([saver.save_tensor_name], [saver.filename_tensor_name])
    seen = {id(node) for nodes in places.values() for node in nodes}
    places[ELSEWHERE] = [node for node in main.all_nodes() if id(node) not in seen]
    return places


def _tensors(outputs: Mapping[str, meta_graph_pb2.TensorInfo]) -> list[str]:
    names = []
    for info in outputs.values():
        names += [info.name, info.coo_sparse.values_tensor_name, info.coo_sparse.indices_tensor_name]
        names += [part.name for part in info.composite_tensor.components]
    return names


class _Main:
    """The main graph, and the functions that its nodes call."""

    def __init__(self, graph: graph_pb2.GraphDef):
        self._nodes = {node.name: node for node in graph.node}
        self._functions = {function.signature.name: function for function in graph.library.function}

    def all_nodes(self) -> Iterable[node_def_pb2.NodeDef]:
        yield from self._nodes.values()
        for function in self._functions.values():
            yield from function.node_def

    def reached(self, tensors: Iterable[str], fed: Iterable[str]) -> Nodes:
        """The nodes that must run for these tensors, if those that are `fed` need not be computed."""
        fed = {_node_name(name) for name in fed}
        waiting, names, nodes = [_node_name(name) for name in tensors if name], set(), []
        while waiting:
            name = waiting.pop()
            if name not in names and name in self._nodes:
                names.add(name)
                nodes.append(self._nodes[name])
                if name not in fed:
                    waiting += [_node_name(each) for each in self._nodes[name].input]
        return nodes + self._called(nodes)

    def _called(self, nodes):
        waiting, names, inner = list(nodes), set(), []
        while waiting:
            for name in called_by(waiting.pop()):
                if name not in names and name in self._functions:
                    names.add(name)
                    # All of a function counts: what it does beside its results runs as well.
                    body = self._functions[name].node_def
                    inner += body
                    waiting += body
        return inner


def called_by(node: node_def_pb2.NodeDef) -> Iterable[str]:
    """The names of the functions that a node may call, and that of its operation."""
    yield node.op  # a function can be called as if it were an operation
    for attribute in node.attr.values():
        if attribute.HasField("func"):
            yield attribute.func.name
        for function in attribute.list.func:
            yield function.name


def _node_name(tensor):
    return tensor.lstrip("^").partition(":")[0]
