"""A process with TensorFlow but without keras_dl that loads and runs SavedModels as TensorFlow Serving does.

`keras_dl.serving.export.clean` runs this file and exchanges lines of JSON with it: a request on standard input, an
answer on standard output, tensors as `TensorProto` in base64. The process ends when standard input closes.
"""

import base64
import json
import os

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2
from tensorflow.core.protobuf import config_pb2

DEADLINE_MILLISECONDS = 120_000


def main():
    requests = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # libraries may print to standard output
    session, signatures, callables = None, {}, {}
    for line in requests:
        request = json.loads(line)
        try:
            if "load" in request:
                if session is not None:
                    session.close()
                session, callables = tf.compat.v1.Session(graph=tf.Graph()), {}
                with session.graph.as_default():
                    loaded = tf.compat.v1.saved_model.loader.load(session, ["serve"], request["load"])
                signatures, answer = dict(loaded.signature_def), {}
            else:
                name = request["signature"]
                if name not in signatures:
                    raise ValueError(f"no signature {name!r}")
                if set(request["inputs"]) != set(signatures[name].inputs):
                    expected, received = (
                        ", ".join(sorted(names)) for names in (signatures[name].inputs, request["inputs"])
                    )
                    raise ValueError(f"expected the inputs {expected}. Received: {received}")
                if name not in callables:
                    callables[name] = make_callable(session, signatures[name])
                inputs = {key: decoded(text) for key, text in request["inputs"].items()}
                values = callables[name](*(inputs[key] for key in sorted(signatures[name].inputs)))
                outputs = dict(zip(sorted(signatures[name].outputs), values, strict=True))
                answer = {"outputs": {key: encoded(value) for key, value in outputs.items()}}
        except Exception as error:  # a model can raise anything, and the process must survive it
            answer = {"error": str(getattr(error, "message", None) or error) or type(error).__name__}
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()


def make_callable(session, signature):
    options = config_pb2.CallableOptions(
        feed=[signature.inputs[key].name for key in sorted(signature.inputs)],
        fetch=[signature.outputs[key].name for key in sorted(signature.outputs)],
    )
    options.run_options.timeout_in_ms = DEADLINE_MILLISECONDS
    return session._make_callable_from_options(options)


def encoded(value):
    # A scalar string arrives as bytes; NumPy would strip its trailing zeros.
    value = np.array(value, dtype=object) if isinstance(value, bytes) else np.asarray(value)
    return base64.b64encode(tf.make_tensor_proto(value).SerializeToString()).decode()


def decoded(text):
    return tf.make_ndarray(tensor_pb2.TensorProto.FromString(base64.b64decode(text)))


if __name__ == "__main__":
    main()
