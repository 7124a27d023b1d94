"""A pipeline with one weight, whose training can be computed by hand, and access to its registered versions."""

import mlflow

from keras_dl.pipeline import load_pipeline
from keras_dl.release import registry

# One weight w, the loss (w - 1)^2, one step of gradient descent per epoch: each one multiplies w - 1 by 1 - 2 rate.
# From w = 0, rate 1.2 gives 1 + 1.4, 1 - 1.96, 1 + 2.744: the first epoch is the best. Test inputs are twice as large.
PIPELINE = '''"""A line."""

import keras
import tensorflow as tf

from keras_dl import Pipeline
from keras_dl.data import Splits, batches


def line(x):
    return tf.data.Dataset.from_tensor_slices(([[x]] * 8, [[x]] * 8))


class Line(Pipeline):
    epochs = 3

    def data(self, hp):
        test = float(self.source or 2)
        return batches(Splits(line(1.0), line(1.0), line(test)), batch_size=hp.Choice("batch_size", [8, 16], default=8))

    def build(self, hp):
        x = keras.Input((1,), name="x")
        model = keras.Model(x, keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros", name="y")(x))
        model.compile(keras.optimizers.SGD(hp.Float("rate", 0.1, 2.0, default=1.2)), "mse", jit_compile=False)
        return model

    def report(self, model, splits):
        return {"weight": float(model.get_layer("y").kernel[0, 0])}

    def pictures(self, model, splits):
        return {"words": "w is all there is"}
'''


def write_pipeline(root):
    file = root / "pipelines" / "line.py"
    file.parent.mkdir(exist_ok=True)
    file.write_text(PIPELINE)
    return load_pipeline(file)


def run_of(version):
    return mlflow.get_run(registry.get_version("line", version).run_id)


def weight(version):
    model = mlflow.keras.load_model(f"models:/line/{version}")
    return float(model.get_layer("y").kernel[0, 0])
