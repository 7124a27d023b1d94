"""Random shapes and values over REST and gRPC: no request ends the process of the server."""

import json
import os
import random
import subprocess
import sys

import grpc
import keras
import numpy as np
import pytest
import requests
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from keras_dl.layers import ESN
from keras_dl.models import EchoStateNetwork
from keras_dl.ops.checks import limited
from keras_dl.ops.sampling import complete
from keras_dl.serving.configuration import model_config_text
from keras_dl.serving.server.config import ModelConfig

SERVER = """
import socket, sys
from pathlib import Path
from keras_dl.serving.server.run import run_embedded
from keras_dl.serving.server.source import ConfigFile
listener = socket.create_server(("127.0.0.1", int(sys.argv[2])), backlog=1024)
sys.exit(run_embedded(ConfigFile(Path(sys.argv[1])), "127.0.0.1", listener, int(sys.argv[3]), None))
"""
SIZES = [0, 1, 1, 2, 3, 3, 7, 50]
LARGE_SIZES = [2**12, 2**16, 2**20, 2**31 - 1, 2**31, 2**40, 2**62]
NUMBERS = [0, 1, -1, 0.5, 3, 10, 100, 2**31 - 1, -(2**31), 2**63 - 1, 1e38, float("nan"), float("inf")]
TEXTS = ["", "a", "b", "unknown", "é", "\0", "a" * 1000, {"b64": "/w=="}]
STATUSES = {200, 400, 409, 413, 429, 500, 503, 504}


class Layers(tf.Module):
    """One signature for each kind of kernel."""

    def __init__(self):
        layers = keras.layers
        series, image = ([None, None, 2], "float32"), ([None, None, None, 3], "float32")
        self.layers = {
            "conv1d": (layers.Conv1D(4, 3), series),
            "conv1d_causal": (layers.Conv1D(4, 3, padding="causal", dilation_rate=2), series),
            "conv2d": (layers.Conv2D(4, 3, strides=2), image),
            "conv2d_same": (layers.Conv2D(4, 3, padding="same"), image),
            "conv2d_transposed": (layers.Conv2DTranspose(2, 3, strides=2), image),
            "conv3d": (layers.Conv3D(2, 2), ([None, None, None, None, 1], "float32")),
            "depthwise": (layers.DepthwiseConv2D(3), image),
            "separable": (layers.SeparableConv1D(4, 3), series),
            "max_pooling": (layers.MaxPooling1D(2), series),
            "average_pooling": (layers.AveragePooling2D(3, padding="same"), image),
            "global_pooling": (layers.GlobalMaxPooling2D(), image),
            "upsampling": (layers.UpSampling1D(2), series),
            "normalization": (layers.LayerNormalization(), series),
            "lstm": (layers.Bidirectional(layers.LSTM(3)), series),
            "gru": (layers.GRU(3, return_sequences=True), series),
            "attention": (Attention(), series),
            "embedding": (layers.Embedding(5, 3), ([None, None], "int32")),
            "lookup": (layers.StringLookup(vocabulary=["a", "b"]), ([None, None], "string")),
        }
        for layer, (shape, dtype) in self.layers.values():
            layer(tf.zeros([each or 4 for each in shape], dtype) if dtype != "string" else tf.constant([["a"]]))
        esn = EchoStateNetwork(ESN(20), 1)
        esn.compile(loss="mse")
        esn.fit(np.sin(np.arange(200.0)).reshape(1, 200, 1).astype("float32"), verbose=0)
        self.esn = esn
        models = [esn, *(layer for layer, _ in self.layers.values())]
        self.kept = [variable.value for model in models for variable in model.variables]

    def signatures(self):
        @tf.function(input_signature=[tf.TensorSpec([None, None, 1], name="x"), tf.TensorSpec([], tf.int32, "steps")])
        def forecast(x, steps):
            steps = limited("steps", steps, 1, 1000, rows=tf.shape(x)[0], most_in_all=10_000)
            return {"y": self.esn.forecast(x, steps)}

        inputs = [tf.TensorSpec([None], tf.string, "prompt"), tf.TensorSpec([None], tf.int32, "length")]

        @tf.function(input_signature=inputs, autograph=False)
        def write(prompt, length):
            length = limited("length", length, 0, 20, rows=tf.shape(prompt)[0], most_in_all=1000)
            return {"y": complete(lambda ids, state: (tf.one_hot(ids + 1, 256), state), lambda b: (), prompt, length)}

        found = {"forecast": forecast, "complete": write}
        for name, (layer, (shape, dtype)) in self.layers.items():
            spec = tf.TensorSpec(shape, dtype, name="x")
            found[name] = tf.function(lambda x, layer=layer: {"y": layer(x)}, input_signature=[spec])
        return found | {"serving_default": found["conv1d"]}


class Attention(keras.layers.Layer):
    def build(self, shape):
        self.inner = keras.layers.MultiHeadAttention(2, 2)
        self.inner.build(shape, shape)

    def call(self, x):
        return self.inner(x, x)


def random_shape(draw, spec, most):
    """Mostly the shape of the signature, with sizes of 0 and large ones; sometimes a different rank or size."""
    shape = [draw.choice(SIZES) if size is None else size for size in spec]
    kind = draw.randrange(16)
    if kind == 0 and shape:
        del shape[draw.randrange(len(shape))]
    elif kind == 1:
        shape.insert(draw.randrange(len(shape) + 1), draw.choice(SIZES))
    elif kind == 2:
        shape = [draw.choice(SIZES) for _ in range(draw.randrange(7))]
    elif kind == 3 and shape:
        shape[draw.randrange(len(shape))] = draw.choice(LARGE_SIZES)
    while np.prod(shape, dtype=object) > most and kind != 3:
        shape[shape.index(max(shape))] //= 2
    return shape


def rest_value(draw, shape, dtype):
    def nested(sizes, leaf):
        return [nested(sizes[1:], leaf) for _ in range(min(sizes[0], 50))] if sizes else leaf()

    fits = [number for number in NUMBERS if dtype != tf.int32 or type(number) is int and abs(number) < 2**31]
    values = draw.choice([TEXTS if dtype == tf.string else fits] * 8 + [TEXTS, NUMBERS])
    one = draw.choice(values)
    return nested(shape, draw.choice([lambda: one, lambda: draw.choice(values)]))


def grpc_value(draw, shape, dtype):
    """A tensor whose shape may be far larger than its content."""
    proto = tf.TensorShape([min(size, 2**62) for size in shape]).as_proto()
    tensor = tf.make_tensor_proto(["a"] if dtype == tf.string else [draw.choice([0, 1, -1, 3])], dtype)
    tensor.tensor_shape.CopyFrom(proto)
    kind = draw.randrange(6)
    if kind == 0:
        tensor.ClearField("tensor_content")
        tensor.ClearField("string_val" if dtype == tf.string else "int_val" if dtype == tf.int32 else "float_val")
    elif kind == 1:
        tensor.tensor_content = draw.randbytes(draw.randrange(40))
    elif kind == 2:
        tensor.dtype = draw.randrange(1, 24)
    return tensor


def fuzz(folder, ports, count, seed):
    draw = random.Random(seed)
    signatures = {
        name: {key: (info.dtype, [d.size if d.size >= 0 else None for d in info.tensor_shape.dim])
               for key, info in signature.inputs.items()}
        for name, signature in signatures_of(folder).items()
    }  # fmt: skip
    url, codes = f"http://127.0.0.1:{ports[0]}/v1/models/layers:predict", []
    options = [("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(f"127.0.0.1:{ports[1]}", options) as channel, requests.Session() as session:
        predict = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict
        for _ in range(count):
            name = draw.choice(sorted(signatures))
            rest = draw.randrange(2)
            most = 500 if rest else 2**12 if name in ("lstm", "gru", "forecast", "attention") else 2**20
            values = {}
            for key, (dtype, spec) in signatures[name].items():
                shape, dtype = random_shape(draw, spec, most), tf.as_dtype(dtype)
                values[key] = rest_value(draw, shape, dtype) if rest else grpc_value(draw, shape, dtype)
            if rest:
                body = json.dumps({"signature_name": name, "inputs": values})
                status = session.post(url, data=body, timeout=120).status_code
                assert status in STATUSES, (status, body[:500])
                codes.append("OK" if status == 200 else status)
            else:
                request = predict_pb2.PredictRequest()
                request.model_spec.name, request.model_spec.signature_name = "layers", name
                for key, value in values.items():
                    request.inputs[key].CopyFrom(value)
                code = predict.future(request, timeout=120).code()
                assert code is not grpc.StatusCode.UNAVAILABLE, request
                codes.append(code.name)
    return codes


def signatures_of(folder):
    from keras_dl.serving.export.traps import read_graph

    return {name: each for name, each in read_graph(folder).signature_def.items() if each.inputs}


@pytest.fixture(scope="module")
def server(tmp_path_factory, free_port):
    """A server of all these layers: the folder of the model, ports, process, and file of its output."""
    folder = tmp_path_factory.mktemp("fuzz")
    module, ports, output = Layers(), (free_port(), free_port()), folder / "output.txt"
    tf.saved_model.save(module, str(folder / "layers" / "1"), signatures=module.signatures())
    (folder / "models.config").write_text(model_config_text([ModelConfig("layers", folder / "layers")]))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "TF_CPP_MIN_LOG_LEVEL": "2"}
    with open(output, "wb") as file:
        command = [sys.executable, "-c", SERVER, str(folder / "models.config"), *map(str, ports)]
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=environment)
    while "page:" not in output.read_text():
        assert process.poll() is None, output.read_text()
    yield folder / "layers" / "1", ports, process, output
    process.terminate()
    process.wait(60)


def check(server, count, seed):
    folder, ports, process, output = server
    codes = fuzz(folder, ports, count, seed)
    assert process.poll() is None and "crashed" not in output.read_text(), output.read_text()[-2000:]
    assert codes.count("OK") > count / 20
    return codes


def test_200_random_requests(server):
    check(server, 200, seed=0)


@pytest.mark.slow
def test_5000_random_requests(server):
    check(server, 5000, seed=1)
