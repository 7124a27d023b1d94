"""Text generation with a language model, byte by byte, in a graph and with explicit state.

Shapes: B texts, V ids; a language model has the 256 bytes of UTF-8 as ids, and byte 0 precedes every text. All
functions consist of stock TensorFlow operations and can be exported and served.
"""

import numpy as np
import tensorflow as tf

# (state, first byte, last byte, next state); later rows override earlier ones. State 0 is between characters, 1, 2 and
# 3 expect that many more bytes, the others a restricted second byte. Unicode standard, table 3-7, without byte 0.
_UTF8 = (
    *((0, 0x01, 0x7F, 0), (0, 0xC2, 0xDF, 1), (0, 0xE1, 0xEF, 2), (0, 0xF1, 0xF3, 3)),
    *((0, 0xE0, 0xE0, 4), (0, 0xED, 0xED, 5), (0, 0xF0, 0xF0, 6), (0, 0xF4, 0xF4, 7)),
    *((1, 0x80, 0xBF, 0), (2, 0x80, 0xBF, 1), (3, 0x80, 0xBF, 2)),
    *((4, 0xA0, 0xBF, 1), (5, 0x80, 0x9F, 1), (6, 0x90, 0xBF, 2), (7, 0x80, 0x8F, 2)),
)


def utf8_transitions():
    """Returns the transition table of an automaton that accepts well-formed UTF-8.

    Returns:
        int32 array `[8, 256]`: the next state for a state and a byte, or -1 if the byte is invalid. Text starts and
            ends in state 0.

    Example:

    >>> table = utf8_transitions()
    >>> [int(table[0, byte]) for byte in "aé".encode()], int(table[1, 0xA9])
    ([0, 1, -1], 0)
    """
    table = np.full([8, 256], -1, np.int32)
    for state, first, last, after in _UTF8:
        table[state, first : last + 1] = after
    return table


def uniforms(seed, count):
    """Draws random numbers that depend only on the seed: the n-th of a row is the same in any batch and for any count.

    Args:
        seed: int tensor `[B]`.
        count: int, or int tensor `[]`.

    Returns:
        float32 tensor `[B, count]`, in [0, 1).

    Example:

    >>> few, many = uniforms([7], 3), uniforms([8, 7], 5)
    >>> bool(tf.reduce_all(few[0] == many[1, :3]))
    True
    """

    def row(number):
        return tf.random.stateless_uniform([count], tf.stack([number, 0]), alg="philox")

    return tf.map_fn(row, tf.cast(seed, tf.int32), fn_output_signature=tf.float32)


def sample(logits, uniform, temperature, top_k):
    """Draws one id per row from `softmax(logits / temperature)`, restricted to the `top_k` most probable ids.

    Args:
        logits: float tensor `[B, V]`; -inf where an id is not allowed.
        uniform: float tensor `[B]` in [0, 1), the random number: the first id whose cumulative probability exceeds it
            is drawn.
        temperature: float tensor `[B]`. Values below 1 favor probable ids; 0 or less takes the most probable one.
        top_k: int tensor `[B]`. 0 or less, or more than V, allows all. Among equal logits, the first ones are kept.

    Returns:
        int32 tensor `[B]`.

    Example:

    >>> logits = tf.math.log([[0.5, 0.3, 0.2]] * 4)
    >>> sample(logits, [0.4, 0.6, 0.9, 0.9], temperature=[1.0, 1.0, 1.0, 0.0], top_k=[0, 0, 2, 0]).numpy().tolist()
    [0, 1, 1, 0]

    Reference: Fan, Lewis and Dauphin 2018, "Hierarchical neural story generation", https://arxiv.org/abs/1805.04833
    """
    logits = tf.cast(logits, tf.float32)
    temperature, top_k = tf.cast(temperature, tf.float32)[:, None], tf.cast(top_k, tf.int32)[:, None]
    rank = tf.argsort(tf.argsort(logits, direction="DESCENDING", stable=True))
    kept = tf.logical_and(logits > float("-inf"), tf.logical_or(rank < top_k, top_k < 1))
    # Ids are excluded before the division, because an infinite temperature would turn -inf into NaN.
    scaled = (tf.where(kept, logits, 0.0) - tf.reduce_max(logits, axis=-1, keepdims=True)) / temperature
    cumulative = tf.cumsum(tf.nn.softmax(tf.where(kept, scaled, float("-inf"))), axis=-1)
    below = cumulative <= tf.cast(uniform, tf.float32)[:, None] * cumulative[:, -1:]
    drawn = tf.reduce_sum(tf.cast(below, tf.int32), axis=-1)
    return tf.where(temperature[:, 0] > 0, drawn, tf.argmax(logits, axis=-1, output_type=tf.int32))


def complete(step, start, prompt, length, temperature=1.0, top_k=0, seed=0):
    """Continues a text, character by character; the state summarizes everything read so far.

    The result is well-formed UTF-8: invalid bytes are never drawn, and the text ends after a complete character. Rows
    are independent of each other.

    Args:
        step: `step(ids, state) -> (logits, state)`, int32 `[B]` -> float `[B, 256]` (see `models.one_step`).
        start: `start(B) -> state`, nested tensors.
        prompt: string tensor `[B]`; may be empty. Invalid UTF-8 is read as U+FFFD.
        length: int tensor `[B]` or `[]`, the number of characters to generate; 0 or less returns the prompt.
        temperature: float tensor `[B]` or `[]` (see `sample`). Defaults to 1.
        top_k: int tensor `[B]` or `[]` (see `sample`). Defaults to 0, for all.
        seed: int tensor `[B]` or `[]`. Equal seeds give equal texts. Defaults to 0.

    Returns:
        string tensor `[B]`, the prompt and its continuation.

    Example:

    >>> def step(ids, state):                                    # the alphabet, in order
    ...     return tf.one_hot(ids + 1, 256), state
    >>> complete(step, lambda batch: (), ["a", "xy"], length=[3, 1], temperature=0.0).numpy().tolist()
    [b'abcd', b'xyz']
    """
    prompt = tf.strings.unicode_transcode(prompt, "UTF-8", "UTF-8", errors="replace")
    batch = tf.shape(prompt)
    length, top_k, seed = (tf.broadcast_to(tf.cast(value, tf.int32), batch) for value in (length, top_k, seed))
    temperature = tf.broadcast_to(tf.cast(temperature, tf.float32), batch)
    size = tf.strings.length(prompt)
    longest = tf.maximum(tf.reduce_max(size), 1)
    read = tf.cast(tf.io.decode_raw(prompt, tf.uint8, fixed_length=longest), tf.int32)
    draws = tf.maximum(4 * tf.reduce_max(length), 1)  # a character has at most 4 bytes
    chances, transitions = uniforms(seed, draws), tf.constant(utf8_transitions())

    def unfinished(time, ids, missing, place, state, written):
        return tf.reduce_any(missing > 0)

    def write(time, ids, missing, place, state, written):
        logits, state = step(ids, state)
        allowed = tf.gather(transitions, place)
        chance = tf.gather(chances, tf.clip_by_value(time - size, 0, draws - 1), batch_dims=1)
        drawn = sample(tf.where(allowed >= 0, logits, float("-inf")), chance, temperature, top_k)
        writes = tf.logical_and(time >= size, missing > 0)
        place = tf.where(writes, tf.gather(allowed, drawn, batch_dims=1), place)
        missing -= tf.cast(tf.logical_and(writes, place == 0), tf.int32)
        ids = tf.where(time < size, read[:, tf.minimum(time, longest - 1)], drawn)
        return time + 1, ids, missing, place, state, written.write(time, tf.where(writes, drawn, 0))

    nothing = tf.zeros(batch, tf.int32)
    # One row is written before the loop, because an empty array of unknown batch size cannot be stacked in a graph.
    written = tf.TensorArray(tf.int32, 1, dynamic_size=True, element_shape=[None]).write(0, nothing)
    first = (tf.constant(0), nothing, length, nothing, start(batch[0]), written)
    *_, written = tf.while_loop(unfinished, write, first)
    # Byte 0 is never drawn; it marks steps in which nothing was written.
    characters = tf.gather(tf.constant([b"", *(bytes([byte]) for byte in range(1, 256))]), written.stack())
    return tf.strings.join([prompt, tf.strings.reduce_join(characters, axis=0)])
