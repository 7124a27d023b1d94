"""Batching parameters: those of TensorFlow Serving, and the server's defaults."""

import itertools
import os
from dataclasses import dataclass

from google.protobuf import text_format

from keras_dl.errors import UserError
from keras_dl.serving.messages import BatchingParameters

# Our name, TensorFlow Serving's name, and the minimum.
_PARAMETERS = [
    ("max_batch_size", "max_batch_size", 1),
    ("timeout_micros", "batch_timeout_micros", 0),
    ("num_threads", "num_batch_threads", 1),
    ("max_enqueued_batches", "max_enqueued_batches", 1),
]


@dataclass(frozen=True)
class Batching:
    """Parameters of micro-batching.

    Attributes:
        max_batch_size: maximum number of rows in a batch. A larger request runs alone.
        timeout_micros: how long an incomplete batch waits for more requests. Defaults to 0: a free thread takes the
            requests that are waiting, so that there is no delay under low load.
        num_threads: number of batches of one model that run at the same time. Defaults to the number of cores minus
            one, which is left to connections and JSON; fewer concurrent batches also make larger batches.
        max_enqueued_batches: at most `max_enqueued_batches * max_batch_size` requests wait; further ones are rejected.
        allowed_batch_sizes: ascending sizes to which batches are filled up, the last one equal to max_batch_size.
            Defaults to (): batches are not filled up.
        max_padding: maximum ratio of padding to data in a batch of requests of different lengths. Applies only if the
            model's manifest allows padding. Defaults to 0.5: a recurrent network takes about as long for one row as
            for ten, so that a few large batches are cheaper than many small ones.
        every_signature: also batch signatures whose rows the manifest does not describe as independent, if the first
            dimension of every input and output is unknown, as TensorFlow Serving does.
    """

    max_batch_size: int = 64
    timeout_micros: int = 0
    num_threads: int = max(1, (os.cpu_count() or 1) - 1)
    max_enqueued_batches: int = 16
    allowed_batch_sizes: tuple[int, ...] = ()
    max_padding: float = 0.5
    every_signature: bool = False


def read_batching(text: str) -> Batching:
    """Reads TensorFlow Serving's ``--batching_parameters_file``.

    Missing parameters get our defaults. ``pad_variable_length_inputs`` and ``thread_pool_name`` are ignored: inputs
    are padded only where the manifest allows it. ``enable_large_batch_splitting`` is ignored as well: requests with
    more rows than ``max_batch_size`` run alone.

    Args:
        text: a BatchingParameters message in text format.

    Returns:
        A `Batching` that batches every signature that TensorFlow Serving would batch.

    Raises:
        UserError: if the text is malformed or a value is out of range.
    """
    message = BatchingParameters()
    try:
        text_format.Parse(text, message)
    except text_format.ParseError as error:
        raise UserError(f"invalid batching parameters of TensorFlow Serving at line:column {error}") from None
    values = {}
    for ours, theirs, least in _PARAMETERS:
        if message.HasField(theirs):
            values[ours] = getattr(message, theirs).value
            if values[ours] < least:
                raise UserError(f"expected {theirs} of at least {least}. Received: {values[ours]}")
    if sizes := tuple(message.allowed_batch_sizes):
        largest = values.setdefault("max_batch_size", sizes[-1])
        if sizes[0] < 1 or sizes[-1] != largest or any(a >= b for a, b in itertools.pairwise(sizes)):
            shown = ", ".join(map(str, sizes))
            raise UserError(f"expected ascending allowed_batch_sizes that end with {largest}. Received: {shown}")
    return Batching(**values, allowed_batch_sizes=sizes, every_signature=True)
