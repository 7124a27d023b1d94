"""Analysis of a SavedModel's graph: which operations run when, and where their inputs come from. Nothing is loaded."""

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
_CALLS = {"PartitionedCall", "StatefulPartitionedCall"}
_VARIABLE_READS = {"ReadVariableOp", "VarIsInitializedOp"}


class Step(NamedTuple):
    """A node and the function that contains it; "" is the main graph."""

    node: node_def_pb2.NodeDef
    function: str


def operations_by_place(graph: meta_graph_pb2.MetaGraphDef) -> dict[str, list[Step]]:
    """Returns the nodes of a SavedModel's graph that run in each place, including those of the functions that they
    call.

    The places are `"signature 'NAME'"`; `LOADING`, which fills the tables; `RESTORING`; `SAVING`, which servers never
    do; `ELSEWHERE`, the rest. A node may run in several places.
    """
    main = _Main(graph.graph_def)
    saver = graph.saver_def
    places = {}
    for name, signature in sorted(graph.signature_def.items()):
        if name != _INIT_OP:
            fed = {info.name for info in signature.inputs.values()}
            places[f"signature {name!r}"] = main.reached(_tensors(signature.outputs), fed)
    present = [name for name in _INIT_COLLECTIONS if name in graph.collection_def]  # reading a missing key adds it
    init = [node for name in present for node in graph.collection_def[name].node_list.value]
    if _INIT_OP in graph.signature_def:
        init += [info.name for info in graph.signature_def[_INIT_OP].outputs.values()]
    places[LOADING] = main.reached(init, assets(graph))
    places[RESTORING] = main.reached([saver.restore_op_name], {saver.filename_tensor_name})
    places[SAVING] = main.reached([saver.save_tensor_name], {saver.filename_tensor_name})
    seen = {id(step.node) for steps in places.values() for step in steps}
    places[ELSEWHERE] = [step for step in main.all_steps() if id(step.node) not in seen]
    return places


def asset_files(graph: meta_graph_pb2.MetaGraphDef) -> list[meta_graph_pb2.AssetFileDef]:
    """Returns the files of the SavedModel, with the tensors that a server feeds with their paths on loading."""
    if graph.asset_file_def or _ASSETS not in graph.collection_def:
        return list(graph.asset_file_def)
    packed = graph.collection_def[_ASSETS].any_list.value  # used by models of TensorFlow 1
    try:
        return [meta_graph_pb2.AssetFileDef.FromString(each.value) for each in packed]
    except DecodeError:
        return []


def assets(graph: meta_graph_pb2.MetaGraphDef) -> set[str]:
    """Returns the names of the tensors that are fed with the paths of the SavedModel's files."""
    return {asset.tensor_info.name for asset in asset_files(graph)}


def _tensors(outputs: Mapping[str, meta_graph_pb2.TensorInfo]) -> list[str]:
    names = []
    for info in outputs.values():
        names += [info.name, info.coo_sparse.values_tensor_name, info.coo_sparse.indices_tensor_name]
        names += [info.coo_sparse.dense_shape_tensor_name]
        names += [part.name for part in info.composite_tensor.components]
    return names


class _Main:
    """The main graph and its function library."""

    def __init__(self, graph: graph_pb2.GraphDef):
        self._nodes = {node.name: node for node in graph.node}
        self._functions = {function.signature.name: function for function in graph.library.function}
        # Functions that TensorFlow may run instead of another one: gradients, and implementations for other devices.
        self._alternatives = defaultdict(set)
        for gradient in graph.library.gradient:
            self._alternatives[gradient.function_name].add(gradient.gradient_func)
        implementations = defaultdict(set)
        for name, function in self._functions.items():
            if "api_implements" in function.attr:
                implementations[function.attr["api_implements"].s].add(name)
        for names in implementations.values():
            for name in names:
                self._alternatives[name] |= names

    def all_steps(self) -> Iterable[Step]:
        yield from (Step(node, "") for node in self._nodes.values())
        for name, function in self._functions.items():
            yield from (Step(node, name) for node in function.node_def)

    def reached(self, tensors: Iterable[str], fed: set[str]) -> list[Step]:
        """Returns the nodes that must run for these tensors, given the tensors that are `fed`.

        A node with a fed output still runs if another of its outputs is needed.
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
            waiting += self._alternatives.get(name, ())
            if name in self._functions:
                # The whole body counts, because side effects run even if no result depends on them.
                body = self._functions[name].node_def
                inner += [Step(node, name) for node in body]
                waiting += [each for node in body for each in called_by(node)]
        return inner


def called_by(node: node_def_pb2.NodeDef) -> Iterable[str]:
    """Yields the names of the functions that a node may call, and of its operation."""
    yield node.op  # functions can be called like operations
    for attribute in node.attr.values():
        if attribute.HasField("func"):
            yield attribute.func.name
        for function in attribute.list.func:
            yield function.name


def tensor_name(name: str) -> str:
    """Returns a tensor's canonical name: `node:0` for the first output."""
    return name if ":" in name or name.startswith("^") else f"{name}:0"


class Sources:
    """Traces the inputs of nodes back through function calls."""

    def __init__(self, graph: meta_graph_pb2.MetaGraphDef):
        library = graph.graph_def.library.function
        # TensorFlow may run these functions instead of others, so their arguments cannot be traced to their calls.
        substitutes = {gradient.gradient_func for gradient in graph.graph_def.library.gradient}
        substitutes |= {each.signature.name for each in library if "api_implements" in each.attr}
        self._arguments = {
            each.signature.name: [argument.name for argument in each.signature.input_arg]
            for each in library
            if each.signature.name not in substitutes
        }
        self._nodes = {("", node.name): node for node in graph.graph_def.node}
        self._nodes |= {(each.signature.name, node.name): node for each in library for node in each.node_def}

    def constant(self, step: Step, index: int) -> bytes | None:
        """Returns the string of a node's input if it is a constant, otherwise None."""
        _, node = self._origin(step.function, _input(step, index))
        if node is None or node.op != "Const":
            return None
        texts = node.attr["value"].tensor.string_val
        return texts[0] if len(texts) == 1 else None

    def comes_from(self, step: Step, index: int, tensors: Iterable[str], steps: Iterable[Step]) -> bool:
        """Returns True if a node's input is always one of the given tensors of the main graph.

        `steps` are all nodes that run, among them the callers of functions.
        """
        tensors, steps = {tensor_name(name) for name in tensors if name}, list(steps)
        waiting, seen = [(step.function, _input(step, index))], set()
        while waiting:
            place = waiting.pop()
            if place in seen:
                continue
            seen.add(place)
            function, name = place
            name, node = self._origin(function, name)
            if not function and tensor_name(name) in tensors:
                continue
            if not function and node is not None and node.op == "ReadVariableOp":
                values = self._assigned(node.input[0])
                if not values:
                    return False
                waiting += [("", value) for value in values]
                continue
            if node is not None or name not in self._arguments.get(function, ()):
                return False
            callers = [each for each in steps if function in called_by(each.node)]
            if not callers or any(each.node.op not in {*_CALLS, function} for each in callers):
                return False  # another kind of call may order its arguments differently
            at = self._arguments[function].index(name)
            waiting += [(each.function, _input(each, at)) for each in callers]
        return True

    def _assigned(self, handle):
        """Returns the values assigned to a variable of the main graph, or [] if other nodes may assign it unnoticed."""
        variable = self._nodes.get(("", handle.partition(":")[0]))
        if variable is None or variable.op != "VarHandleOp":
            return []
        named = [
            node
            for node in self._nodes.values()
            if node.op == "VarHandleOp" and _shared_name(node) == _shared_name(variable)
        ]
        uses = [node for (function, _), node in self._nodes.items() if not function and _uses(node, variable)]
        if len(named) > 1 or any(node.op not in {*_VARIABLE_READS, "AssignVariableOp"} for node in uses):
            return []
        return [node.input[1] for node in uses if node.op == "AssignVariableOp"]

    def _origin(self, function, name):
        """Skips Identity nodes; returns the tensor and the node that computes it, or None for a function's argument."""
        seen = set()
        while (node := self._nodes.get((function, name.partition(":")[0]))) is not None:
            if node.op != "Identity" or not node.input or name in seen:
                break
            seen.add(name)
            name = node.input[0]
        return name, node


def _input(step, index):
    return step.node.input[index] if index < len(step.node.input) else ""


def _shared_name(node):
    return (node.attr["shared_name"].s if "shared_name" in node.attr else b"") or node.name.encode()


def _uses(node, variable):
    return any(name.partition(":")[0] == variable.name for name in node.input)
