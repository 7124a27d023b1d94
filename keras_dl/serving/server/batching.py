"""How requests are put together: TensorFlow Serving's batching parameters, and what the server does without them."""

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Batching:
    """Parameters of micro-batching.

    Attributes:
        max_batch_size: rows that are run at once. A request with more runs alone.
        timeout_micros: how long a batch that is not full waits for more requests. Defaults to 0: whatever waits when a
            thread is free is a batch, so that under low load nobody waits.
        num_threads: threads that run models. Defaults to the number of cores.
        max_enqueued_batches: as many times max_batch_size requests may wait; further ones are refused.
        allowed_batch_sizes: sizes to which batches are filled up, ascending, the last one max_batch_size. Defaults to
            none: batches are as large as they are.
        bucket: requests whose lengths, rounded up to a multiple of it, are equal may share a batch, where the model's
            manifest says that padding changes nothing.
        every_signature: True also batches signatures whose manifest does not say that rows are independent, if the
            first dimension of every input and output is unknown: TensorFlow Serving's rule.
    """

    max_batch_size: int = 64
    timeout_micros: int = 0
    num_threads: int = os.cpu_count() or 1
    max_enqueued_batches: int = 16
    allowed_batch_sizes: tuple[int, ...] = ()
    bucket: int = 32
    every_signature: bool = False
