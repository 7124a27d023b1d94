"""Fixtures: a model folder, filled with copies of SavedModels that are created once."""

import os
import shutil

import numpy as np
import pytest
import tensorflow as tf

from keras_dl.serving.server.config import ModelConfig
from keras_dl.serving.server.store import ModelStore


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """tiny_model(offset): the folder of a SavedModel that returns y = x + offset. Read-only."""
    made = {}

    def save(offset):
        module = tf.Module()
        module.offset = tf.Variable(float(offset))

        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
        def default(x):
            return {"y": x + module.offset}

        folder = tmp_path_factory.mktemp("tiny") / "model"
        tf.saved_model.save(module, str(folder), signatures={"serving_default": default})
        return folder

    def get(offset):
        if offset not in made:
            made[offset] = save(offset)
        return made[offset]

    return get


@pytest.fixture
def base(tmp_path):
    """The empty base folder of the model hp."""
    folder = tmp_path / "saved_models" / "hp"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def put(base, tiny_model, tmp_path):
    """put(version, offset=0, to=base): moves a version with y = x + offset into place and returns its folder."""

    def write(version, offset=0, to=base):
        shutil.copytree(tiny_model(offset), tmp_path / "new")
        os.rename(tmp_path / "new", to / str(version))
        return to / str(version)

    return write


@pytest.fixture
def open_store(base):
    """open_store(policy, **options): a store of the model hp that has polled once and has no thread."""

    def make(*arguments, labels=None, **options):
        store = ModelStore([ModelConfig("hp", base, *arguments, labels=labels or {})], **options)
        store.poll()
        return store

    return make


@pytest.fixture(scope="session")
def run_folders(tmp_path_factory):
    """A masked recurrent network with random weights, and a model that fails for negative numbers."""
    import keras

    root = tmp_path_factory.mktemp("inference")
    features = keras.Input((None, 3), name="features")
    x = keras.layers.Masking()(features)
    x = keras.layers.Bidirectional(keras.layers.GRU(4, return_sequences=True))(x)
    net = keras.Model(features, keras.layers.Dense(2)(x))
    generator = np.random.default_rng(0)
    for weight in net.weights:
        weight.assign(generator.normal(size=weight.shape))

    def default(features):
        logits = net(features)
        weights = tf.cast(tf.reduce_any(features != 0, -1, keepdims=True), tf.float32)
        return {"logits": logits, "score": tf.reduce_sum(logits * weights, [1, 2])}

    archive = keras.export.ExportArchive()
    archive.track(net)
    spec = keras.InputSpec(shape=(None, None, 3), dtype="float32", name="features")
    archive.add_endpoint("serving_default", default, [spec])
    archive.write_out(str(root / "masked"), verbose=False)

    module = tf.Module()

    @tf.function(input_signature=[tf.TensorSpec([None, 2], name="x")])
    def checked(x):
        with tf.control_dependencies([tf.debugging.assert_non_negative(x, "below zero")]):
            return {"y": tf.sqrt(x)}

    tf.saved_model.save(module, str(root / "checked"), signatures=checked)
    return root
