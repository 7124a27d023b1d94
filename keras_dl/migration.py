"""Conversion of trained layers and models from TensorFlow Addons and Keras 2 to Keras 3, with identical outputs.

The module imports neither `tensorflow_addons` nor `tf_keras`. It identifies layers by their class names and reads
`get_config()` and `get_weights()`, so it works with any version of either.
"""

import re

import keras
import numpy as np

from keras_dl.layers import (
    ESN,
    AdditiveAttention,
    AttentionCell,
    GeneralAttention,
    MonotonicAttention,
    PeepholeLSTM,
    PeepholeLSTMCell,
)

__all__ = ["convert_layer", "convert_model", "hard_sigmoid"]

# Layers with the same name and weights in Keras 3; the shapes of the weights are checked anyway.
_SAME_IN_KERAS_3 = """
Activation Add Average AveragePooling1D AveragePooling2D BatchNormalization Concatenate Conv1D Conv2D Cropping1D Dense
DepthwiseConv1D Dot Dropout ELU Embedding Flatten GRU GRUCell GaussianDropout GaussianNoise GlobalAveragePooling1D
GlobalAveragePooling2D GlobalMaxPooling1D GlobalMaxPooling2D InputLayer LSTM LSTMCell LayerNormalization LeakyReLU
Masking MaxPooling1D MaxPooling2D Maximum Minimum Multiply PReLU Permute ReLU RepeatVector Reshape
SimpleRNN SimpleRNNCell Softmax SpatialDropout1D Subtract UpSampling1D ZeroPadding1D
""".split()
_LOOP = ("return_sequences", "return_state", "go_backwards", "stateful", "unroll", "zero_output_for_mask")
# Our names for the weights of each attention mechanism, in the order of Addons; those in brackets are optional.
_MECHANISMS = {
    "BahdanauAttention": "scale [gain bias] query_kernel key_kernel",
    "LuongAttention": "[scale] key_kernel",
    "BahdanauMonotonicAttention": "scale score_bias [gain bias] query_kernel key_kernel",
    "LuongMonotonicAttention": "[scale] score_bias key_kernel",
}
_PEEPHOLE = ("units", "activation", "recurrent_activation", "use_bias", "unit_forget_bias", "dropout")
_PEEPHOLE += ("recurrent_dropout", *(f"{kind}_initializer" for kind in ("kernel", "recurrent", "bias")))
_PEEPHOLE += tuple(
    f"{kind}_{what}" for kind in ("kernel", "recurrent", "bias") for what in ("regularizer", "constraint")
)


def convert_layer(layer):
    """Converts a layer of TensorFlow Addons or Keras 2 to a layer of Keras 3 that computes the same outputs.

    `RNN(PeepholeLSTMCell)` becomes `keras_dl.layers.PeepholeLSTM`; `ESN`, `ESNCell` and `RNN(ESNCell)` become
    `keras_dl.layers.ESN`; `PeepholeLSTMCell`, `RNN` and `Bidirectional` around supported layers, and the common layers
    of Keras 2 become the layers of the same name. `BahdanauAttention` becomes `AdditiveAttention`, `LuongAttention`
    becomes `GeneralAttention`, and `AttentionWrapper` around a supported cell becomes `AttentionCell`. Addons stores
    the memory in the layer; here, it is an input. The two monotonic mechanisms become `MonotonicAttention`, which adds
    noise only during training and whose parallel mode is exact where that of Addons divides by values that underflow.

    Args:
        layer: a layer of `tensorflow_addons` 0.23 or `tf_keras`; its weights are copied if it is built.

    Returns:
        A Keras 3 layer with the same name and dtype policy.

    Raises:
        ValueError: if the layer has no equivalent, or its weights do not have the shapes of the equivalent.

    Example:

    >>> class Dense:  # stands for a trained tf_keras.layers.Dense
    ...     def get_config(self): return {"name": "scores", "units": 2, "activation": "relu"}
    ...     def get_build_config(self): return {"input_shape": (None, 3)}
    ...     def get_weights(self): return [np.ones((3, 2), "float32"), np.zeros(2, "float32")]
    >>> convert_layer(Dense())(np.ones((1, 3), "float32")).numpy()
    array([[3., 3.]], dtype=float32)
    """
    inner = getattr(layer, "cell", layer) if type(layer).__name__ == "RNN" else layer
    if type(inner).__name__ in ("ESN", "ESNCell"):
        return _esn(layer, inner)
    if type(layer).__name__ in _MECHANISMS:
        return _attention(layer)
    if type(layer).__name__ == "AttentionWrapper":
        return _attention_cell(layer)
    converted, weights = _without_weights(layer), layer.get_weights()
    if weights:
        converted.build(_input_shape(layer, converted, weights))
        shapes = [[tuple(each.shape) for each in some] for some in (converted.weights, weights)]
        if shapes[0] != shapes[1]:
            raise ValueError(f"Expected weights of shapes {shapes[0]} in {_described(layer)}. Received: {shapes[1]}")
        converted.set_weights(weights)
    return converted


def convert_model(model):
    """Converts a Sequential or functional model of Keras 2 to a model of Keras 3 that computes the same outputs.

    Args:
        model: a built `tf_keras.Sequential` or functional `tf_keras.Model`; its layers are converted by
            `convert_layer`.

    Returns:
        A `keras.Sequential` or `keras.Model` with the same name, not compiled.

    Raises:
        ValueError: if a layer has no equivalent, or the model is neither Sequential nor functional.

    Example:

    >>> class Sequential:  # stands for a trained tf_keras.Sequential
    ...     name, layers, input_shape = "scores", [], (None, 3)
    >>> convert_model(Sequential()).name
    'scores'
    """
    kind = type(model).__name__
    if kind == "Sequential":
        start = keras.Input(batch_shape=model.input_shape, dtype=_first_dtype(model))
        return keras.Sequential([start, *(_convert(layer) for layer in model.layers)], name=model.name)
    if kind != "Functional":
        raise ValueError(
            f"Expected a Sequential or functional model of Keras 2. Received: {model.name!r} of type {kind}"
        )
    return _functional(model)


@keras.saving.register_keras_serializable("keras_dl")
def hard_sigmoid(x):
    """Hard sigmoid of Keras 2, `0.2 x + 0.5` clipped to [0, 1]; the function of this name in Keras 3 has a different
    slope.

    Example:

    >>> hard_sigmoid(np.array([-3.0, 1.0, 3.0])).numpy()
    array([0. , 0.7, 1. ])
    """
    return keras.ops.clip(0.2 * keras.ops.convert_to_tensor(x) + 0.5, 0.0, 1.0)


def _convert(layer):
    return convert_model(layer) if hasattr(layer, "layers") else convert_layer(layer)


def _first_dtype(model):
    inputs = getattr(model, "inputs", None)
    return getattr(inputs[0].dtype, "name", inputs[0].dtype) if inputs else None


def _functional(model):
    """Calls the converted layers as in the config, which refers to tensors by `[name, node, index, arguments]`."""
    config, layers, tensors, pending = model.get_config(), {}, {}, []

    def tensor(reference):
        name, node, index = reference[:3]
        return keras.tree.flatten(tensors[name, node])[index]

    for entry in config["layers"]:
        name, old = entry["name"], model.get_layer(entry["name"])
        if type(old).__name__ == "InputLayer":
            shape = {**entry["config"]}.get("batch_input_shape") or entry["config"]["batch_shape"]
            tensors[name, 0] = keras.Input(batch_shape=shape, dtype=_policy(entry["config"]), name=name)
            continue
        layers[name] = _convert(old)
        pending += [(name, node, call) for node, call in enumerate(entry["inbound_nodes"])]
    while pending:
        name, node, call = pending.pop(0)
        if not all((part[0], part[1]) in tensors for part in call):
            pending.append((name, node, call))  # terminates, because the graph of layers has no cycles
            continue
        arguments = {key: value for key, value in (call[0][3] if len(call[0]) > 3 else {}).items() if value is not None}
        if any(isinstance(value, list | tuple | dict) for value in arguments.values()):
            raise ValueError(f"Expected calls whose only tensors are the inputs. Received: {name!r} with {arguments}")
        first, *rest = inputs = [tensor(part) for part in call]
        if rest and isinstance(layers[name], keras.layers.RNN):
            tensors[name, node] = layers[name](first, initial_state=rest, **arguments)
        else:
            tensors[name, node] = layers[name](inputs if rest else first, **arguments)
    ends = [config["input_layers"], config["output_layers"]]
    ends = [tensor(end) if isinstance(end[0], str) else [tensor(part) for part in end] for end in ends]
    return keras.Model(*ends, name=model.name)


def _without_weights(layer):
    """Returns the Keras 3 layer without weights."""
    kind, config = type(layer).__name__, _portable(layer.get_config())
    common = {"name": config.get("name"), "dtype": _policy(config), "trainable": config.get("trainable", True)}
    if kind == "PeepholeLSTMCell":
        return PeepholeLSTMCell(**_peephole(config), **common)
    if kind == "RNN":
        loop = {key: config[key] for key in _LOOP if key in config}
        if type(layer.cell).__name__ == "PeepholeLSTMCell":
            return PeepholeLSTM(**_peephole(_portable(layer.cell.get_config())), **loop, **common)
        cells = [_without_weights(cell) for cell in getattr(layer.cell, "cells", [layer.cell])]
        return keras.layers.RNN(cells if len(cells) > 1 else cells[0], **loop, **common)
    if kind == "Bidirectional":
        there, back = _without_weights(layer.forward_layer), _without_weights(layer.backward_layer)
        return keras.layers.Bidirectional(there, config["merge_mode"], backward_layer=back, **common)
    if kind not in _SAME_IN_KERAS_3:
        raise ValueError(
            "Expected a layer with an equivalent in Keras 3: RNN, PeepholeLSTMCell, ESN, ESNCell, Bidirectional, "
            f"AttentionWrapper, {', '.join([*_MECHANISMS, *_SAME_IN_KERAS_3])}. Received: {_described(layer)}"
        )
    if config.pop("time_major", False) or config.pop("ragged", False) or config.pop("sparse", False):
        raise ValueError(f"Expected dense, batch-major inputs. Received: {_described(layer)} with {layer.get_config()}")
    for unknown in ("batch_input_shape", "implementation", "input_length"):
        config.pop(unknown, None)
    if kind == "BatchNormalization" and isinstance(config["axis"], list | tuple):
        (config["axis"],) = config["axis"]
    return getattr(keras.layers, kind)(**{**config, **common})


def _peephole(config):
    """Returns the arguments of our cell; Addons initializes peepholes with the kernel initializer."""
    arguments = {key: config[key] for key in _PEEPHOLE if key in config}
    return {**arguments, "peephole_initializer": config.get("kernel_initializer", "glorot_uniform")}


def _esn(layer, inner):
    config, loop, weights = _portable(inner.get_config()), _portable(layer.get_config()), layer.get_weights()
    if not weights:
        raise ValueError(f"Expected a layer with weights. Received: {_described(layer)}, which is not built")
    return ESN.from_weights(
        *weights,
        leak_rate=config["leaky"],
        activation=config["activation"],
        **{key: loop[key] for key in _LOOP if key in loop and key != "unroll"},
        name=loop.get("name"),
        dtype=_policy(loop),
    )


def _attention(mechanism):
    kind, config, weights = type(mechanism).__name__, _portable(mechanism.get_config()), mechanism.get_weights()
    if config.get("probability_fn", "softmax") != "softmax":
        raise ValueError(f"Expected softmax as `probability_fn`. Received: {config['probability_fn']!r}")
    chosen = config.get("normalize" if "Bahdanau" in kind else "scale", False)
    names = _MECHANISMS[kind]
    names = (names.replace("[", "").replace("]", "") if chosen else re.sub(r"\[.*\] ", "", names)).split()
    common = {"name": config.get("name"), "dtype": _policy(config), "trainable": config.get("trainable", True)}
    if "Monotonic" in kind:
        common |= {key: config[key] for key in ("units", "mode") if "Bahdanau" in kind or key != "units"}
        common |= {"noise": config["sigmoid_noise"], "score_bias": config["score_bias_init"], "normalize": chosen}
        converted = MonotonicAttention("additive" if "Bahdanau" in kind else "general", **common)
    elif kind == "BahdanauAttention":
        converted = AdditiveAttention(config["units"], normalize=chosen, use_bias=chosen, **common)
    else:
        converted = GeneralAttention(use_scale=chosen, **common)
    if len(weights) != len(names):
        raise ValueError(
            f"Expected a mechanism that has been called, with the weights {', '.join(names)}. "
            f"Received: {len(weights)} weights in {_described(mechanism)}"
        )
    weights = dict(zip(names, weights, strict=True))
    features = np.shape(weights["query_kernel"])[0] if "query_kernel" in weights else config["units"]
    converted.build((None, None, features), (None, None, np.shape(weights["key_kernel"])[0]))
    converted.set_weights([weights[weight.name] for weight in converted.weights])
    return converted


def _attention_cell(wrapper):
    """Converts a wrapper of Addons from its attributes, because it has no config."""
    functions = [getattr(wrapper, name).__qualname__ for name in ("_cell_input_fn", "_attention_fn")]
    dense, mechanisms = wrapper._attention_layers or [None], wrapper._attention_mechanisms
    expected = ["AttentionWrapper.__init__.<locals>.cell_input_fn", "_compute_attention"]
    if len(mechanisms) != 1 or functions != expected or (dense[0] and len(dense[0].get_weights()) != 1):
        raise ValueError(
            "Expected one mechanism, no custom functions, and a built attention layer without bias. "
            f"Received: {_described(wrapper)} with {len(mechanisms)} mechanisms and {', '.join(functions)}"
        )
    cells = [convert_layer(cell) for cell in getattr(wrapper._cell, "cells", [wrapper._cell])]
    cells = [getattr(cell, "cell", cell) for cell in cells]  # ESN cells become ESN layers
    attention = _attention(mechanisms[0])
    common = {"name": wrapper.name, "trainable": wrapper.trainable, "dtype": attention.dtype_policy}
    converted = AttentionCell(
        cells[0] if len(cells) == 1 else keras.layers.StackedRNNCells(cells, dtype=attention.dtype_policy),
        attention,
        attention_units=dense[0].get_config()["units"] if dense[0] else None,
        attention_activation=dense[0].get_config()["activation"] if dense[0] else None,
        output="attention" if wrapper._output_attention else "cell",
        **common,
    )
    memory_features = np.shape(mechanisms[0].get_weights()[-1])[0]
    feedback = converted.attention_units or memory_features
    inputs = cells[0].get_build_config()["input_shape"][-1] - feedback
    converted.build((None, inputs), (None, None, memory_features))
    if dense[0]:
        converted.kernel.assign(dense[0].get_weights()[0])
    return converted


def _input_shape(layer, converted, weights):
    shape = (getattr(layer, "get_build_config", dict)() or {}).get("input_shape")
    if shape is not None:
        return tuple(shape)
    # Keras 2 does not record the shape for a cell inside a loop; the first weight of a cell is its kernel.
    steps = (None,) if isinstance(converted, keras.layers.RNN) else ()
    return (None, *steps, np.shape(weights[0])[0])


def _policy(config):
    """Returns the name of the dtype policy, which Keras 2 stores as a string or as an object."""
    dtype = config.get("dtype")
    return dtype["config"]["name"] if isinstance(dtype, dict) else dtype


def _portable(config):
    """Removes module paths of Keras 2 objects from a config, since Keras 3 stores them elsewhere."""
    if isinstance(config, dict):
        dropped = ("module", "registered_name", "shared_object_id") if "class_name" in config else ()
        return {
            key: hard_sigmoid if "activation" in key and value == "hard_sigmoid" else _portable(value)
            for key, value in config.items()
            if key not in dropped
        }
    return [_portable(value) for value in config] if isinstance(config, list | tuple) else config


def _described(layer):
    return f"{getattr(layer, 'name', None)!r} of type {type(layer).__name__}"
