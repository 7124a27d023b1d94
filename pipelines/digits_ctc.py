"""Reads strings of handwritten digits.

    keras-dl tune pipelines/digits_ctc.py --trials 6           # 4 minutes on 2 cores
    keras-dl tune pipelines/digits_ctc.py --data tfds:mnist    # strings of other square images

Expected: a test label error rate below 1.5%.
"""

import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf

from keras_dl import Pipeline
from keras_dl.data import batches, load
from keras_dl.data.ops import columns, fit_height
from keras_dl.losses import CTCLoss
from keras_dl.metrics import ImpossibleRows, LabelErrorRate
from keras_dl.models import recogniser

TRAINING_STRINGS = 8000


class DigitsCTC(Pipeline):
    """Recognizes strings of 1 to 8 digits; each column of pixels is a time step."""

    objective = "val_label_error_rate"
    epochs = 4
    trials = 6

    def strings(self):
        return load("digit_strings", images=self.source or "sklearn")

    def data(self, hp):
        height = self.strings().features["image"].shape[0]
        return batches(
            self.strings(),
            batch_size=hp.Choice("batch_size", [48, 64, 96], default=64),
            # Class 0 is the blank and the padding of labels.
            example=lambda example: (columns(example["image"][..., 0]), example["label"] + 1),
            length=lambda image, label: tf.shape(image)[0],
            bucket_boundaries=[2 * height, 4 * height, 6 * height],
            seed=self.seed,
        )

    def build(self, hp):
        features = self.strings().features
        height = features["image"].shape[0]
        model = recogniser(
            height,
            vocabulary=features["label"].feature.names,
            filters=hp.Choice("filters", [16, 32], default=32),
            dropout=hp.Float("dropout", 0.0, 0.5, default=0.3),
            halvings=max(1, round(np.log2(height / 5))),  # about 4 frames per digit for any size
        )
        # CTC first learns to output only blanks. A high rate leaves this plateau quickly; the decay refines the result.
        rate = keras.optimizers.schedules.CosineDecay(
            hp.Float("learning_rate", 2e-3, 2e-2, sampling="log", default=8e-3),
            decay_steps=self.epochs * TRAINING_STRINGS // hp.get("batch_size"),
        )
        model.compile(
            keras.optimizers.Adam(rate, clipnorm=1.0), CTCLoss(), metrics=[LabelErrorRate(), ImpossibleRows()]
        )
        return model

    def signatures(self, model):
        output, height = model.get_layer("ctc_output"), model.input_shape[-1]

        def read(image):
            text, score = output.decode(model(columns(fit_height(image, height)), training=False))
            return {"text": text, "score": score}

        # Rows x columns of pixels on any scale, 0 = background; narrower images are padded with zeros on the right.
        return {"serving_default": (read, [tf.TensorSpec([None, None, None], tf.float32, name="image")])}

    def request(self, example):
        return {"image": np.transpose(example[0])[None]}

    def answer(self, example):
        names = self.strings().features["label"].feature.names
        return "".join(names[label - 1] for label in example[1] if label > 0)

    def pictures(self, model, splits):
        images, labels = next(iter(splits.test))
        output = model.get_layer("ctc_output")
        texts, _ = output.decode(model(images, training=False))
        figure, axes = plt.subplots(12, figsize=(8, 9), layout="constrained")
        for axis, image, label, text in zip(axes, images.numpy(), labels.numpy(), texts.numpy(), strict=False):
            target, text = "".join(output.vocabulary[i - 1] for i in label if i > 0), text.decode()
            axis.imshow(image.T, cmap="gray_r", aspect="equal")
            axis.set_title(
                f"{target} read as {text}", loc="left", fontsize=9, color="black" if text == target else "red"
            )
            axis.axis("off")
        return {"test_strings": figure}
