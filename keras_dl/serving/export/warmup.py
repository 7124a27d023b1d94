"""The requests that a server replays before it counts a version as loaded: the first ones cost hundreds of times more.

TensorFlow Serving reads them from `assets.extra/tf_serving_warmup_requests`, a TFRecord of `PredictionLog`, at most
1000 of them, and takes a version out of service of which one fails: so only what was answered is written.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_dl.serving.messages import PredictionLog

WARMUP = Path("assets.extra") / "tf_serving_warmup_requests"
# A start should not take long because of them: bytes of one record, and of all.
LARGEST_RECORD, LARGEST_FILE = 4 * 2**20, 16 * 2**20


def prediction_log(name: str, signature_name: str, inputs: Mapping[str, np.ndarray]) -> bytes:
    """One predict request as TensorFlow Serving logs it, without a version: whatever is loaded replays it."""
    message = PredictionLog()
    request = message.predict_log.request
    request.model_spec.name, request.model_spec.signature_name = name, signature_name
    for key, array in inputs.items():
        # The messages lie in a pool of their own, whose TensorProto is another class with the same bytes.
        request.inputs[key].MergeFromString(tf.make_tensor_proto(array).SerializeToString())
    return message.SerializeToString()


def write_warmup(folder: Path, name: str, requests: Iterable[tuple[str, Iterable[Mapping[str, np.ndarray]]]]) -> int:
    """Writes the warm-up requests of a version.

    Args:
        folder: of the version.
        name: of the model.
        requests: for each signature its name and `{input: array}` that the version answers.

    Returns:
        How many were written: one that is larger than 4 MiB is left out, and what would make the file larger than
        16 MiB. With none there is no file.
    """
    records, size = [], 0
    for record in (prediction_log(name, key, inputs) for key, several in requests for inputs in several):
        if len(record) <= LARGEST_RECORD and size + len(record) <= LARGEST_FILE:
            records.append(record)
            size += len(record)
    if records:
        path = folder / WARMUP
        path.parent.mkdir(exist_ok=True)
        with tf.io.TFRecordWriter(str(path)) as writer:
            for record in records:
                writer.write(record)
    return len(records)
