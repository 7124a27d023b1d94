"""A hash table with lookups in two gathers."""

import numpy as np
import tensorflow as tf

# Odd random 64-bit numbers, as in MurmurHash3; multiplication by them mixes the bits.
MIX = (np.int64(-0x00AE502812AA7333), np.int64(-0x3B314601E57A13AD))


class CuckooTable:
    """A hash table of integers: each key is in one of two places, so a lookup always takes two probes.

    Args:
        keys: int64 array `[N]`, distinct and not negative.
        values: int array `[N]`, not negative.

    Example:

    >>> table = CuckooTable(keys=[7, 10**12], values=[1, 2])
    >>> table.look_up([10**12, 8, 7]).numpy().tolist()
    [2, -1, 1]

    Reference: Pagh and Rodler 2004, "Cuckoo hashing", Journal of Algorithms 51(2).
    """

    def __init__(self, keys, values):
        keys, values = np.asarray(keys, np.int64), np.asarray(values, np.int32)
        self._bits, owner = 1, None
        while owner is None:
            self._bits += 1
            # A table that is more than half full cannot be built.
            if len(keys) <= 0.45 * 2**self._bits:
                owner = _place([place.numpy() for place in self._places(tf.constant(keys))], 2**self._bits)
        # Empty places have owner -1, the appended element.
        self._keys = tf.constant(np.append(keys, -1)[owner])
        self._values = tf.constant(np.append(values, -1)[owner], tf.int32)

    def look_up(self, keys):
        """Returns the values of keys, using stock TensorFlow operations.

        Args:
            keys: int64 tensor, of any shape.

        Returns:
            int32 tensor of the same shape, -1 for missing keys.
        """
        keys = tf.convert_to_tensor(keys, tf.int64)
        first, second = self._places(keys)
        place = tf.where(tf.gather(self._keys, first) == keys, first, second)
        return tf.where(tf.gather(self._keys, place) == keys, tf.gather(self._values, place), -1)

    def _places(self, keys):
        mixed = keys * MIX[0]
        mixed = tf.bitwise.bitwise_xor(mixed, tf.bitwise.right_shift(mixed, np.int64(33))) * MIX[1]
        mask = np.int64(2**self._bits - 1)
        return [
            tf.cast(tf.bitwise.bitwise_and(tf.bitwise.right_shift(mixed, np.int64(shift)), mask), tf.int32)
            for shift in (64 - 28, 64 - 56)
        ]


def _place(places, size):
    """Assigns keys to places: the key at each place, `[size]`, or -1; None if there is no assignment."""
    owner, waiting = np.full(size, -1), np.arange(len(places[0]))
    places, choice = np.stack(places), np.zeros(len(waiting), np.int64)
    for _ in range(1000):
        if not len(waiting):
            return owner
        place = places[choice[waiting], waiting]
        before = owner[place]
        owner[place] = waiting  # of several keys, one is kept
        stays = owner[place] == waiting
        evicted = before[stays]
        waiting = np.concatenate([waiting[~stays], evicted[evicted >= 0]])
        choice[waiting] ^= 1
    return None
