"""Greedy search, sampling and beam search over the outputs of a decoder, using only stock TensorFlow operations.

A decoder is a function `step(tokens [N], time [], state, memory) -> (logits [N, V], state, alignment [N, S] or None)`
of nested tensors: the state is passed from step to step, and the memory is the same at all steps.
"""

from keras_dl.ops.decoding.beam import beam_search
from keras_dl.ops.decoding.decoded import Decoded
from keras_dl.ops.decoding.greedy import greedy_search
from keras_dl.ops.decoding.penalties import coverage_penalty, length_penalty
from keras_dl.ops.decoding.sampling import nucleus_size, sample_search

__all__ = [
    "Decoded",
    "beam_search",
    "coverage_penalty",
    "greedy_search",
    "length_penalty",
    "nucleus_size",
    "sample_search",
]
