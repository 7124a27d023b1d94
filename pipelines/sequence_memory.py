"""Measures the memory of recurrent layers: six learn a task on short sequences and are tested on longer ones.

    keras-dl tune pipelines/sequence_memory.py                           # counting, a^n b^n: 2 minutes on 2 cores
    keras-dl tune pipelines/sequence_memory.py --data copy               # or adding, anbncn, binary_addition
    keras-dl train pipelines/sequence_memory.py --compared LSTM,GRU      # compare fewer layers

Expected for a^n b^n, trained with n up to 10: all layers except the identity RNN and the ESN count to 11, the LSTM
to 15 or 16, and the peephole LSTM to 21, 41 and 24 (seeds 0, 1 and 2). The run logs a table and a picture of all six.
"""

import functools

import keras
import keras_tuner as kt
import matplotlib.pyplot as plt
import numpy as np
from keras import layers, metrics

from keras_dl import Pipeline
from keras_dl.data import batches, load
from keras_dl.data.builders.sequence_memory import TASKS
from keras_dl.errors import UserError
from keras_dl.layers import ESN, PeepholeLSTM

COUNTING = "anbn"
# With the learning rate of the comparison; a search tunes its own.
LAYERS = {
    "SimpleRNN": (1e-2, layers.SimpleRNN),
    # Le et al. 2015, "A simple way to initialize recurrent networks of rectified linear units".
    "IdentityRNN": (3e-3, functools.partial(layers.SimpleRNN, activation="relu", recurrent_initializer="identity")),
    "GRU": (3e-2, layers.GRU),
    "LSTM": (3e-2, layers.LSTM),
    "PeepholeLSTM": (3e-2, PeepholeLSTM),
    "ESN": (3e-2, functools.partial(ESN, spectral_radius=0.95, input_scaling=0.3)),
}
ESN_TIMES = 8  # the factor for units of the ESN, which trains none of their weights
GROUPS = 6  # columns of the table


class SequenceMemory(Pipeline):
    """A recurrent layer with an output at each step that depends on earlier inputs."""

    objective = "val_step_loss"
    epochs = 10
    trials = 6
    compared = ",".join(LAYERS)

    @property
    def task(self):
        return self.source or COUNTING

    def data(self, hp):
        self.compared = hp.Fixed("compared", ",".join(LAYERS))  # for `report` and `pictures`
        if unknown := set(self.compared.split(",")) - set(LAYERS):
            raise UserError(f"compared must be among {', '.join(LAYERS)}. Received: {', '.join(sorted(unknown))}")
        return batches(
            load("sequence_memory", task=self.task),
            batch_size=hp.Choice("batch_size", [32, 64], default=32),
            example=lambda example: (example["inputs"], example["targets"], example["weights"]),
            seed=self.seed,
        )

    def build(self, hp):
        features = load("sequence_memory", task=self.task).features
        name, units = hp.Choice("layer", list(LAYERS), default="LSTM"), hp.Choice("units", [16, 32], default=32)
        inputs = keras.Input((None, features["inputs"].shape[-1]), name="inputs")
        x = LAYERS[name][1](ESN_TIMES * units if name == "ESN" else units, return_sequences=True)(inputs)
        x = layers.Dropout(hp.Float("dropout", 0.0, 0.3, default=0.0))(x)
        activation = "linear" if self.task == "adding" else "sigmoid"
        outputs = layers.Dense(features["targets"].shape[-1], activation, name="said")(x)
        model = keras.Model(inputs, outputs, name=name)
        rate = keras.optimizers.schedules.CosineDecay(
            hp.Float("learning_rate", 1e-3, 5e-2, sampling="log", default=3e-2),
            decay_steps=self.epochs * int(self.data(hp).train.cardinality()),
        )
        # Keras averages the loss over all steps; these metrics average over the steps with a target.
        loss = metrics.MeanSquaredError if self.task == "adding" else metrics.BinaryCrossentropy
        error = metrics.MeanMetricWrapper(wrong, name="step_error", tolerance=tolerance(self.task))
        model.compile(
            keras.optimizers.Adam(rate, clipnorm=1.0),
            "mean_squared_error" if self.task == "adding" else "binary_crossentropy",
            weighted_metrics=[loss(name="step_loss"), error],
            jit_compile=False,  # on a CPU, XLA takes longer to compile than it saves
        )
        return model

    def answer(self, example):
        return str(np.asarray(example[1]))

    def report(self, model, splits):
        rows, _, _, table = compare(self, model, splits)
        print(f"\n{table}")
        return {f"right_{name}": np.mean(shares) for name, shares in rows.items() if name in LAYERS}

    def pictures(self, model, splits):
        rows, columns, curves, table = compare(self, model, splits)
        figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4), width_ratios=[3, 2], layout="constrained")
        image = np.array(list(rows.values()))
        left.imshow(image, cmap="Greens", vmin=0, vmax=1, aspect="auto")
        for (row, column), share in np.ndenumerate(image):
            color = "white" if share > 0.6 else "black"
            left.text(column, row, f"{share:.2f}", ha="center", va="center", color=color)
        left.set_xticks(range(len(columns)), columns)
        left.set_yticks(range(len(rows)), rows)
        left.set_title(table.partition("\n")[0], fontsize=11)
        for name, curve in curves.items():
            right.plot(range(1, len(curve) + 1), curve, marker="o", markersize=3, label=name)
        right.set(xlabel="epoch", ylabel="share of wrong steps", ylim=(0, None))
        right.set_title("validation error during training", fontsize=11)
        right.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
        return {"layers": figure, "layers_table": table}


@keras.saving.register_keras_serializable("keras_dl")
def wrong(targets, outputs, tolerance):
    """Returns 1 for each step with an output that differs from its target by more than the tolerance, else 0."""
    return keras.ops.cast(keras.ops.any(keras.ops.abs(targets - outputs) > tolerance, axis=-1), "float32")


def tolerance(task):
    return 0.04 if task == "adding" else 0.5  # 0.04 as in Hochreiter and Schmidhuber 1997


@functools.cache
def compare(pipeline, model, splits):
    """Trains the compared layers in the same way, and tests them and the best trial.

    Returns:
        Correct fractions `{model: [fraction per column]}`, names of the columns, validation curves, and a table as
        text.
    """
    models, curves = {f"best trial: {model.name}": model}, {}
    for name in pipeline.compared.split(","):
        hp, (rate, _) = kt.HyperParameters(), LAYERS[name]
        hp.values.update(layer=name, learning_rate=rate, compared=pipeline.compared)
        keras.utils.set_random_seed(pipeline.seed)
        models[name] = pipeline.build(hp)
        options = {"epochs": pipeline.epochs, "shuffle": False, "verbose": 0}
        fitted = models[name].fit(splits.train, validation_data=splits.validation, **options)
        curves[name] = fitted.history["val_step_error"]

    examples = load("sequence_memory", task=pipeline.task)
    test = next(examples.test.padded_batch(100_000).as_numpy_iterator())
    sizes = np.unique(test["size"])
    groups = np.array_split(sizes, min(len(sizes), GROUPS))
    columns = [f"{group[0]}-{group[-1]}" if len(group) > 1 else f"{group[0]}" for group in groups]
    task, rows = TASKS[pipeline.task], {}
    table = f"{pipeline.task}: correct sequences by {task.size}; trained with {task.size} "
    table += f"{task.train[0]} to {task.train[1]}\n" if task.train[0] < task.train[1] else f"{task.train[0]}\n"
    table += f"{'':25}{'trained':>8}" + "".join(f"{column:>8}" for column in columns)
    for name, each in models.items():
        errors = wrong(test["targets"], each(test["inputs"], training=False), tolerance(pipeline.task))
        right = np.max(errors * test["weights"], axis=1) == 0
        rows[name] = [right[np.isin(test["size"], group)].mean() for group in groups]
        trained = sum(np.prod(weight.shape) for weight in each.trainable_weights)
        table += f"\n{name:25}{trained:8}" + "".join(f"{share:8.2f}" for share in rows[name])
    return rows, columns, curves, table
