"""How requests are put together: TensorFlow Serving's batching parameters, and what the server does without them."""

import itertools
import os
from dataclasses import dataclass

from google.protobuf import text_format

from keras_dl.errors import UserError
from keras_dl.serving.messages import BatchingParameters

# Our name, TensorFlow Serving's, and the least value.
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
        max_batch_size: rows that are run at once. A request with more runs alone.
        timeout_micros: how long a batch that is not full waits for more requests. Defaults to 0: whatever waits when a
            thread is free is a batch, so that under low load nobody waits.
        num_threads: batches of one model that run at once. Defaults to one less than there are cores: one is for
            connections and JSON, and the fewer run at once the larger they get.
        max_enqueued_batches: as many times max_batch_size requests may wait; further ones are refused.
        allowed_batch_sizes: sizes to which batches are filled up, ascending, the last one max_batch_size. Defaults to
            none: batches are as large as they are.
        max_padding: zeros that a batch of different lengths may hold, as a part of its data, where the model's manifest
            says that padding changes no answer. Defaults to half: a recurrent net takes about as long for one row as
            for ten, so that few large batches cost less than many small ones.
        every_signature: True also batches signatures whose manifest does not say that rows are independent, if the
            first dimension of every input and output is unknown: TensorFlow Serving's rule.
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

    What it leaves out has our default. ``pad_variable_length_inputs`` and ``thread_pool_name`` mean nothing here:
    lengths are padded where it is known to change no answer, and nowhere else. Requests with more rows than
    ``max_batch_size`` are run alone, so ``enable_large_batch_splitting`` has nothing to split.

    Args:
        text: a BatchingParameters message in protobuf's text form.

    Returns:
        Batching of every signature that TensorFlow Serving would batch.

    Raises:
        UserError: the text is no such message, or a value is out of its range.
    """
    message = BatchingParameters()
    try:
        text_format.Parse(text, message)
    except text_format.ParseError as error:
        raise UserError(
            f"expected TensorFlow Serving's batching parameters and received, at line:column {error}"
        ) from None
    values = {}
    for ours, theirs, least in _PARAMETERS:
        if message.HasField(theirs):
            values[ours] = getattr(message, theirs).value
            if values[ours] < least:
                raise UserError(f"expected {theirs} of at least {least} and received {values[ours]}")
    if sizes := tuple(message.allowed_batch_sizes):
        largest = values.setdefault("max_batch_size", sizes[-1])
        if sizes[0] < 1 or sizes[-1] != largest or any(a >= b for a, b in itertools.pairwise(sizes)):
            shown = ", ".join(map(str, sizes))
            raise UserError(
                f"expected allowed_batch_sizes that ascend to max_batch_size {largest} and received {shown}"
            )
    return Batching(**values, allowed_batch_sizes=sizes, every_signature=True)
