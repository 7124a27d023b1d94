"""Which operations of a SavedModel run, and when: read from its graph, nothing is loaded."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from google.protobuf.message import DecodeError
from tensorflow.core.framework import graph_pb2, node_def_pb2
from tensorflow.core.protobuf import meta_graph_pb2

LOADING, RESTORING, SAVING = "on loading", "on restoring the weights", "on saving"
ELSEWHERE = "in no signature"
_INIT_OP = "__saved_model_init_op"
_ASSETS = "saved_model_assets"
_INIT_COLLECTIONS = ("saved_model_main_op", "legacy_init_op")


class Step(NamedTuple):
    """A node, and the function whose body it stands in; "" is the main graph."""

    node: node_def_pb2.NodeDef
    function: str


def operations_by_place(graph: meta_graph_pb2.MetaGraphDef) -> dict[str, list[Step]]:
    """The nodes that run in each place, those of the functions that they call among them.

    Args:
        graph: of a SavedModel.

    Returns:
        The nodes for each of: `"signature 'NAME'"`; `LOADING`, which fills the tables; `RESTORING`; `SAVING`, which no
        server does; `ELSEWHERE`, the rest. A node may run in several places.
    """
    main = _Main(graph.graph_def)
    saver = graph.saver_def
    places = {}
    for name, signature in sorted(graph.signature_def.items()):
        if name != _INIT_OP:
            fed = {info.name for info in signature.inputs.values()}
            places[f"signature {name!r}"] = main.reached(_tensors(signature.outputs), fed)
    there = [name for name in _INIT_COLLECTIONS if name in graph.collection_def]  # reading a map's key would make it
    init = [node for name in there for node in graph.collection_def[name].node_list.value]
    if _INIT_OP in graph.signature_def:
        init += [info.name for info in graph.signature_def[_INIT_OP].outputs.values()]
    places[LOADING] = main.reached(init, assets(graph))
    places[RESTORING] = main.reached([saver.restore_op_name], {saver.filename_tensor_name})
    places[SAVING] = main.reached([saver.save_tensor_name], {saver.filename_tensor_name})
    seen = {id(step.node) for steps in places.values() for step in steps}
    places[ELSEWHERE] = [step for step in main.all_steps() if id(step.node) not in seen]
    return places


def asset_files(graph: meta_graph_pb2.MetaGraphDef) -> list[meta_graph_pb2.AssetFileDef]:
    """The SavedModel's own files, and the tensors that a server feeds with their paths on loading."""
    if graph.asset_file_def or _ASSETS not in graph.collection_def:
        return list(graph.asset_file_def)
    packed = graph.collection_def[_ASSETS].any_list.value  # where models of TensorFlow 1 have them
    try:
        return [meta_graph_pb2.AssetFileDef.FromString(each.value) for each in packed]
    except DecodeError:
        return []


def assets(graph: meta_graph_pb2.MetaGraphDef) -> set[str]:
    """The tensors that are fed with the paths of the SavedModel's own files."""
    return {asset.tensor_info.name for asset in asset_files(graph)}


def _tensors(outputs: Mapping[str, meta_graph_pb2.TensorInfo]) -> list[str]:
    names = []
    for info in outputs.values():
        names += [info.name, info.coo_sparse.values_tensor_name, info.coo_sparse.indices_tensor_name]
        names += [info.coo_sparse.dense_shape_tensor_name]
        names += [part.name for part in info.composite_tensor.components]
    return names


class _Main:
    """The main graph, and the functions that its nodes call."""

    def __init__(self, graph: graph_pb2.GraphDef):
        self._nodes = {node.name: node for node in graph.node}
        self._functions = {function.signature.name: function for function in graph.library.function}
        # TensorFlow runs these in a function's place: its gradient, and what implements the same for another device.
        self._instead = defaultdict(set)
        for gradient in graph.library.gradient:
            self._instead[gradient.function_name].add(gradient.gradient_func)
        implementations = defaultdict(set)
        for name, function in self._functions.items():
            if "api_implements" in function.attr:
                implementations[function.attr["api_implements"].s].add(name)
        for names in implementations.values():
            for name in names:
                self._instead[name] |= names

    def all_steps(self) -> Iterable[Step]:
        yield from (Step(node, "") for node in self._nodes.values())
        for name, function in self._functions.items():
            yield from (Step(node, name) for node in function.node_def)

    def reached(self, tensors: Iterable[str], fed: set[str]) -> list[Step]:
        """The nodes that must run for these tensors, if those that are `fed` need not be computed.

        A node of which one output is fed runs all the same, where another one is asked for.
        """
        fed = {tensor_name(name) for name in fed}
        waiting, names, steps = [name for name in tensors if name], set(), []
        while waiting:
            tensor = tensor_name(waiting.pop())
            name = tensor.lstrip("^").partition(":")[0]
            if tensor not in fed and name not in names and name in self._nodes:
                names.add(name)
                steps.append(Step(self._nodes[name], ""))
                waiting += self._nodes[name].input
        return steps + self._called(steps)

    def _called(self, steps):
        waiting = [name for step in steps for name in called_by(step.node)]
        names, inner = set(), []
        while waiting:
            name = waiting.pop()
            if name in names:
                continue
            names.add(name)
            waiting += self._instead.get(name, ())
            if name in self._functions:
                # All of a function counts: what it does beside its results runs as well.
                body = self._functions[name].node_def
                inner += [Step(node, name) for node in body]
                waiting += [each for node in body for each in called_by(node)]
        return inner


def called_by(node: node_def_pb2.NodeDef) -> Iterable[str]:
    """The names of the functions that a node may call, and that of its operation."""
    yield node.op  # a function can be called as if it were an operation
    for attribute in node.attr.values():
        if attribute.HasField("func"):
            yield attribute.func.name
        for function in attribute.list.func:
            yield function.name


def tensor_name(name: str) -> str:
    """A tensor's name in one form: `node:0` for its first output."""
    return name if ":" in name or name.startswith("^") else f"{name}:0"
