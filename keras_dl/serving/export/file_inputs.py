"""Where a tensor of a SavedModel's graph comes from, as far as it can be told without running it."""

from collections.abc import Iterable

from tensorflow.core.protobuf import meta_graph_pb2

from keras_dl.serving.export.graph import Step, called_by, tensor_name

_CALLS = {"PartitionedCall", "StatefulPartitionedCall"}
_LOOKS = {"ReadVariableOp", "VarIsInitializedOp"}


class Sources:
    """The inputs of a graph's nodes, followed back through the calls of functions."""

    def __init__(self, graph: meta_graph_pb2.MetaGraphDef):
        library = graph.graph_def.library.function
        # Those that TensorFlow may run in another's place get arguments from where no call of them can be seen.
        elsewhere = {gradient.gradient_func for gradient in graph.graph_def.library.gradient}
        elsewhere |= {each.signature.name for each in library if "api_implements" in each.attr}
        self._arguments = {
            each.signature.name: [argument.name for argument in each.signature.input_arg]
            for each in library
            if each.signature.name not in elsewhere
        }
        self._nodes = {("", node.name): node for node in graph.graph_def.node}
        self._nodes |= {(each.signature.name, node.name): node for each in library for node in each.node_def}

    def constant(self, step: Step, index: int) -> bytes | None:
        """The text of a node's input, if it is one that stands in the graph; None if it is not."""
        _, node = self._origin(step.function, _input(step, index))
        if node is None or node.op != "Const":
            return None
        texts = node.attr["value"].tensor.string_val
        return texts[0] if len(texts) == 1 else None

    def comes_from(self, step: Step, index: int, tensors: Iterable[str], steps: Iterable[Step]) -> bool:
        """Whether a node's input is always one of these tensors of the main graph.

        Args:
            step: the node.
            index: of its input.
            tensors: of the main graph.
            steps: all nodes that run, in which the callers of functions are looked for.
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
                return False  # called in another way, with arguments in another order
            at = self._arguments[function].index(name)
            waiting += [(each.function, _input(each, at)) for each in callers]
        return True

    def _assigned(self, handle):
        """What a variable of the main graph is set to; nothing if another one may set it unseen."""
        variable = self._nodes.get(("", handle.partition(":")[0]))
        if variable is None or variable.op != "VarHandleOp":
            return []
        named = [
            node
            for node in self._nodes.values()
            if node.op == "VarHandleOp" and _shared_name(node) == _shared_name(variable)
        ]
        uses = [node for (function, _), node in self._nodes.items() if not function and _uses(node, variable)]
        if len(named) > 1 or any(node.op not in {*_LOOKS, "AssignVariableOp"} for node in uses):
            return []
        return [node.input[1] for node in uses if node.op == "AssignVariableOp"]

    def _origin(self, function, name):
        """The tensor behind an input's copies, and the node that makes it; None for a function's argument."""
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
