import numpy as np
import pytest
import tensorflow as tf

from keras_dl.ops.ctc.lattice import interleave, may_jump, valid_states


@pytest.mark.parametrize("blank", [0, 2, 4])
def test_states_and_jumps_are_those_of_the_definition(blank):
    generator = np.random.default_rng(blank)
    tokens = [token for token in range(5) if token != blank]
    labels = generator.choice(tokens, (20, 6)).astype("int32")
    lengths = generator.integers(0, 7, 20).astype("int32")
    labels[np.arange(6) >= lengths[:, None]] = -3  # anything may stand in the padding
    states = interleave(labels, lengths, blank).numpy()
    jumps = may_jump(states, blank).numpy()
    valid = valid_states(lengths, 13).numpy()
    assert (states.dtype, states.shape) == ("int32", (20, 13))
    for row, length in enumerate(lengths):
        expected = [blank]
        for label in labels[row, :length]:
            expected += [int(label), blank]
        assert states[row].tolist() == expected + [blank] * (13 - len(expected))
        assert valid[row].tolist() == [True] * len(expected) + [False] * (13 - len(expected))
        for s in range(13):
            free = s % 2 == 1 and 2 < s < len(expected) and expected[s] != expected[s - 2]
            assert jumps[row, s] == free, (row, s)


def test_no_labels_are_one_blank():
    labels, lengths = np.zeros((2, 0), "int32"), np.zeros(2, "int32")
    states = interleave(labels, lengths, 3)
    assert states.numpy().tolist() == [[3], [3]]
    assert may_jump(states, 3).numpy().tolist() == [[False], [False]]
    assert valid_states(lengths, 1).numpy().tolist() == [[True], [True]]


def test_the_lattice_compiles_for_unknown_shapes():
    signature = [tf.TensorSpec([None, None], tf.int32), tf.TensorSpec([None], tf.int32)]
    graph = tf.function(
        lambda labels, lengths: may_jump(interleave(labels, lengths)), input_signature=signature, jit_compile=True
    )
    jumps = graph(tf.constant([[1, 2, 2], [3, 1, 9]]), tf.constant([3, 2])).numpy().astype(int)
    assert jumps.tolist() == [[0, 0, 0, 1, 0, 0, 0], [0, 0, 0, 1, 0, 0, 0]]
