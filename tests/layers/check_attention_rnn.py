"""A recurrent loop with attention in NumPy, step by step in float64."""

import numpy as np


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(scores, mask):
    weights = np.where(mask, np.exp(scores - scores.max(-1, keepdims=True)), 0)
    total = weights.sum(-1, keepdims=True)
    return weights / np.where(total > 0, total, 1)


def lstm(weights):
    """Returns the step function of an LSTM."""
    kernel, recurrent, bias = weights

    def step(x, states):
        h, c = states
        i, f, new, o = np.split(x @ kernel + h @ recurrent + bias, 4, axis=-1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(new)
        h = sigmoid(o) * np.tanh(c)
        return h, [h, c]

    return step


def stacked(steps, sizes):
    """Returns the step function of stacked cells; `sizes` are the numbers of states of each cell."""

    def step(x, states):
        new, first = [], 0
        for cell, size in zip(steps, sizes, strict=True):
            x, after = cell(x, states[first : first + size])
            new, first = new + after, first + size
        return x, new

    return step


def additive(weights, memory, mask):
    """Returns the attention function with the score of Bahdanau et al. over a memory."""
    vector, bias, query_kernel, key_kernel = weights

    def attend(query):
        both = (query @ query_kernel + bias)[:, None] + memory @ key_kernel
        alignment = softmax((vector * np.tanh(both)).sum(-1), mask)
        return np.einsum("bs,bsd->bd", alignment, memory), alignment

    return attend


def run(cell, attend, x, states, memory, kernel=None, query="new", top=0, input_feeding=True, mask=None):
    """Runs all steps.

    Args:
        cell: `(inputs, states) -> (output, states)`.
        attend: `query -> (context, alignment)`.
        x: `[B, T, D]`.
        states: list of arrays, the initial states of the cell.
        memory: `[B, S, Dm]`.
        kernel: `[N + Dm, A]`, or None.
        query: "new" or "previous".
        top: int, index of the state used as the previous query.
        input_feeding: bool.
        mask: bool `[B, T]`, or None.

    Returns:
        `(attentions [B, T, A], outputs of the cell [B, T, N], alignments [B, T, S], states)`.
    """
    size = memory.shape[-1] if kernel is None else kernel.shape[-1]
    hidden = np.zeros((len(x), states[top].shape[-1]))
    latest = [np.zeros((len(x), size)), hidden, np.zeros(memory.shape[:2])]
    rows = []
    for t in range(x.shape[1]):
        if query == "previous":
            context, alignment = attend(states[top])
            hidden, new = cell(np.concatenate([x[:, t], context], -1), states)
        else:
            hidden, new = cell(np.concatenate([x[:, t], latest[0]], -1) if input_feeding else x[:, t], states)
            context, alignment = attend(hidden)
        attention = context if kernel is None else np.tanh(np.concatenate([hidden, context], -1) @ kernel)
        valid = np.ones((len(x), 1), bool) if mask is None else mask[:, t, None]
        pairs = zip([attention, hidden, alignment, *new], [*latest, *states], strict=True)
        attention, hidden, alignment, *states = (np.where(valid, one, other) for one, other in pairs)
        latest = [attention, hidden, alignment]
        rows.append(latest)
    return *(np.stack(each, axis=1) for each in zip(*rows, strict=True)), states
