"""The searches in all execution modes: eager, in a graph, under XLA, with unknown shapes, from a SavedModel."""

import numpy as np
import pytest
import tensorflow as tf

from keras_dl.ops.decoding import Decoded, beam_search, greedy_search, sample_search

from .toy_decoders import Toy

SEARCHES = {
    "beam": (beam_search, dict(start=2, end=1, top_paths=3, length_penalty=0.6, coverage_penalty=0.2)),
    "greedy": (greedy_search, dict(start=2, end=1)),
    "sample": (sample_search, dict(start=2, end=1, seed=3, top_p=0.9)),
}


def assert_same(one, other):
    for name, first, second in zip(Decoded._fields, one, other, strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-4, atol=1e-5, err_msg=name)


def whole(search, toy, values, offset, max_length, **arguments):
    """Runs a search from the two memory tensors of a toy, with any number of rows."""
    shapes = [tf.concat([tf.shape(offset)[:1], tf.shape(x)[1:]], 0) for x in tf.nest.flatten(toy.state)]
    state = [tf.zeros(shape, x.dtype) for shape, x in zip(shapes, tf.nest.flatten(toy.state), strict=True)]
    memory = {"values": values, "none": None, "offset": offset}
    state = tf.nest.pack_sequence_as(toy.state, state)
    return search(toy.step, state, memory, max_length=max_length, **arguments)


@pytest.mark.slow  # XLA takes seconds to compile
@pytest.mark.parametrize("name", SEARCHES)
@pytest.mark.parametrize("jit", [False, True])
def test_graph_and_eager_agree(name, jit):
    search, arguments = SEARCHES[name]
    arguments = arguments | (dict(temperature=0.0) if jit and name == "sample" else {})  # XLA draws different numbers
    toy = Toy(1, holes=0.1)

    @tf.function(autograph=False, jit_compile=jit)
    def compiled(state, memory):
        return search(toy.step, state, memory, max_length=6, **arguments)

    decoded = compiled(toy.state, toy.memory)
    assert_same(search(toy.step, toy.state, toy.memory, max_length=6, **arguments), decoded)
    assert decoded.tokens.shape[2] == 6


def test_unknown_shapes_and_length(tmp_path):
    toy, module = Toy(2), tf.Module()
    specs = tf.TensorSpec([None, None, 5]), tf.TensorSpec([None]), tf.TensorSpec([], tf.int32)

    def traced(search, arguments):
        return tf.function(
            lambda values, offset, length: whole(search, toy, values, offset, length, **arguments)._asdict(),
            autograph=False,
            input_signature=specs,
        )

    module.searches = {name: traced(*SEARCHES[name]) for name in SEARCHES}
    tf.saved_model.save(module, str(tmp_path), module.searches)
    served = tf.saved_model.load(str(tmp_path)).signatures
    for name, (search, arguments) in SEARCHES.items():
        operations = {node.op for f in served[name].graph.as_graph_def().library.function for node in f.node_def}
        assert {"While", "StatelessWhile"} & operations and not {"PyFunc", "EagerPyFunc"} & operations
        for rows, length in ((3, 5), (1, 1), (0, 4), (2, 0), (2, -3), (0, 0)):
            values, offset = toy.memory["values"][:rows], toy.memory["offset"][:rows]
            answers = served[name](values=values, offset=offset, length=tf.constant(length))
            decoded = Decoded(*(answers[field] for field in Decoded._fields))
            assert_same(decoded, whole(search, toy, values, offset, length, **arguments))
            paths, steps = arguments.get("top_paths", 1), max(length, 0)
            assert decoded.tokens.shape == [rows, paths, steps] and decoded.alignment.shape == [rows, paths, steps, 3]
