"""Trains and evaluates a model with each loss and metric on one, two and three virtual devices, and prints the results.

TensorFlow splits the CPU into devices only before it is first used, so this runs in a separate process.
"""

import json

import keras
import numpy as np
import tensorflow as tf

from keras_dl import losses, metrics

ROWS, STEPS, CLASSES = 12, 4, 3
LENGTHS = np.array([4, 0, 1, 3, 2, 4, 2, 4, 1, 3, 3, 2])
GENERATOR = np.random.default_rng(0)
X = GENERATOR.normal(0, 2, (ROWS, STEPS, CLASSES)).astype("float32") + 0.5  # never all zero: no step is masked
X[np.arange(STEPS) >= LENGTHS[:, None]] = 0
LABELS = GENERATOR.integers(1, CLASSES, (ROWS, STEPS)) * (np.arange(STEPS) < LENGTHS[:, None])
CTC_LABELS = np.where(np.arange(STEPS) < np.minimum(LENGTHS, 2)[:, None], LABELS, 0)
SERIES = GENERATOR.normal(50, 3, X.shape).astype("float32")
WEIGHTS = np.array([1.0, 2.0, 0.5, 3.0, 0.0, 1.0, 2.0, 1.0, 4.0, 0.0, 1.0, 2.0], "float32")

LOSSES = {
    f"{kind.__name__}_{reduction}": (kind(**options, reduction=reduction), labels)
    for kind, options, labels, reductions in (
        (losses.CTCLoss, {"label_smoothing": 0.1}, CTC_LABELS, ["mean"]),
        (losses.FramewiseCrossEntropy, {"weights": "ramp"}, LABELS, ["mean", "mean_with_sample_weight"]),
        (losses.SequenceCrossEntropy, {"label_smoothing": 0.1}, LABELS, ["mean", "mean_with_sample_weight", "sum"]),
    )
    for reduction in reductions
}
METRICS = {
    "BitsPerCharacter": LABELS,
    "ExactMatch": LABELS,
    "ImpossibleRows": np.where(LABELS > 0, 1, 0),  # equal labels require blanks between them
    "LabelErrorRate": CTC_LABELS,
    "NRMSE": SERIES,
    "SequenceAccuracy": CTC_LABELS,
    "TokenAccuracy": LABELS,
    "WordErrorRate": CTC_LABELS,
}
EVERY = [name for name in dir(metrics) if isinstance(getattr(metrics, name), type)]
assert sorted(METRICS) == EVERY, f"add the new metric to this file: {EVERY}"
EVERY = [name for name in dir(losses) if isinstance(getattr(losses, name), type)]
assert {name.split("_")[0] for name in LOSSES} == set(EVERY), f"add the new loss to this file: {EVERY}"


def metric(name):
    return getattr(metrics, name)(*[[" ", "a"]] if name == "WordErrorRate" else [], name=name)


def results(eager, trains):
    """Returns the losses and metrics of a model and, if it is trained, its weights afterwards."""
    inputs = keras.Input((STEPS, CLASSES))
    valid = keras.layers.Masking()(inputs)
    names = [*LOSSES, *METRICS]
    outputs = {name: keras.layers.Dense(CLASSES, kernel_initializer="identity", name=name)(valid) for name in names}
    model = keras.Model(inputs, outputs)
    weighted = ("BitsPerCharacter", "NRMSE", "TokenAccuracy")
    model.compile(
        keras.optimizers.SGD(0.1),
        {name: loss for name, (loss, _) in LOSSES.items()},
        metrics={name: [metric(name)] for name in METRICS if name not in weighted},
        weighted_metrics={name: [metric(name)] for name in METRICS if name in weighted},
        jit_compile=False,
        run_eagerly=eager,
    )
    targets = {name: labels for name, (_, labels) in LOSSES.items()} | METRICS
    data = tf.data.Dataset.from_tensor_slices((X, targets, dict.fromkeys(targets, WEIGHTS)))
    # Batches of 6, 5 and 1 rows: equal shards, which Keras requires of the first batch, unequal shards and empty ones.
    data = data.take(11).batch(6).concatenate(data.skip(11).batch(1))
    found = model.evaluate(data, verbose=0, return_dict=True)
    if trains:
        model.fit(data, verbose=0, shuffle=False)
        found |= {weight.path: weight.numpy().tolist() for weight in model.trainable_weights}
    return found


def main():
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 3)
    found = []
    # Keras can train with only one strategy in a process, and weights the losses of outputs by rows only in eager mode.
    for devices, options in {3: {"eager": True, "trains": True}, 2: {"eager": False, "trains": False}}.items():
        one = results(**options)
        with tf.distribute.MirroredStrategy([f"CPU:{number}" for number in range(devices)]).scope():
            found.append([one, results(**options)])
    print(json.dumps(found))


if __name__ == "__main__":
    main()
