"""Classify and regress: converts `tf.train.Example`s to inputs, and outputs to classes and values.

Source: ``servables/tensorflow/{classifier,regressor,util}.cc`` of https://github.com/tensorflow/serving; messages and
the order of checks are the same. As in TensorFlow Serving by default, a signature is checked by its inputs and outputs,
not by its method name.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import types_pb2

from keras_dl.serving.server.engine import LoadedModel
from keras_dl.serving.server.errors import invalid

_INPUT, _CLASSES, _SCORES, _OUTPUT = "inputs", "classes", "scores", "outputs"


def example_inputs(
    model: LoadedModel, signature_name: str, examples: Sequence[bytes], method: Literal["classify", "regress"]
) -> tuple[str, dict[str, np.ndarray]]:
    """Returns the signature to run for classify or regress, and its inputs.

    Args:
        model: the model.
        signature_name: name of the signature; "" means serving_default.
        examples: serialized `tf.train.Example`s, each preceded by the context of the request.
        method: method of the request.

    Returns:
        The name of the signature and its inputs.

    Raises:
        tf.errors.InvalidArgumentError: if the signature does not exist or does not support the method, or if there are
            no examples.
    """
    signature_name = signature_name or "serving_default"
    signature = model.signatures.get(signature_name)
    if signature is None:
        raise invalid(f"No signature was found with the name: {signature_name}")
    if len(signature.inputs) != 1:
        raise invalid("Expected one input Tensor.")
    if method == "classify":
        _check_classification(signature)
    else:
        _check_regression(signature)
    if not examples:
        raise invalid("Input is empty.")
    return signature_name, {_INPUT: np.array(examples, dtype=object)}


def classifications(outputs: Mapping[str, np.ndarray], count: int) -> list[list[tuple[bytes, np.float32]]]:
    """Converts the outputs of a classify signature to labels and scores.

    Args:
        outputs: "classes", "scores" or both.
        count: number of examples.

    Returns:
        For each example a list of (label, score) pairs; a missing label is b"", a missing score 0.

    Raises:
        tf.errors.InvalidArgumentError: if an output has the wrong dtype, or a shape other than [examples, classes].
    """
    classes, scores = outputs.get(_CLASSES), outputs.get(_SCORES)
    for name, array, dtype in ((_CLASSES, classes, tf.string), (_SCORES, scores, tf.float32)):
        if array is None:
            continue
        if array.ndim != 2:
            raise invalid(f"Expected Tensor shape: [batch_size num_classes] but got {_shape_text(array)}")
        if tf.as_dtype(array.dtype) != dtype:
            raise invalid(f"Expected {name} Tensor of {_enum_name(dtype)}. Got: {_enum_name(array.dtype)}")
        if len(array) != count:
            raise invalid(f"Expected {name} output batch size of {count}. Got: {len(array)}")
    if classes is None and scores is None:
        return [[] for _ in range(count)]
    if classes is None:
        classes = np.full(scores.shape, b"", dtype=object)
    elif scores is None:
        scores = np.zeros(classes.shape, np.float32)
    elif classes.shape[1] != scores.shape[1]:
        sizes = f"{classes.shape[1]} vs. {scores.shape[1]}"
        raise invalid(f"Tensors class and score should match in dim_size(1). Got {sizes}")
    return [list(zip(*pair, strict=True)) for pair in zip(classes, scores, strict=True)]


def regressions(outputs: Mapping[str, np.ndarray], count: int) -> np.ndarray:
    """Converts the outputs of a regress signature to one value per example.

    Args:
        outputs: the outputs of the signature.
        count: number of examples.

    Returns:
        A float32 array of shape [examples].

    Raises:
        tf.errors.InvalidArgumentError: if the output is not a float32 array of shape [examples] or [examples, 1].
    """
    values = outputs[_OUTPUT]
    if not (values.ndim == 1 or (values.ndim == 2 and values.shape[1] == 1)):
        shapes = "[batch_size] or [batch_size, 1]"
        raise invalid(f"Expected output Tensor shape to be either {shapes} but got {_shape_text(values)}")
    if len(values) != count:
        raise invalid(f"Input batch size did not match output batch size: {count} vs. {len(values)}")
    if values.dtype != np.float32:
        raise invalid(f"Expected output Tensor of DT_FLOAT.  Got: {_enum_name(values.dtype)}")
    return values.reshape(count)


def _check_classification(signature) -> None:
    if len(signature.outputs) not in (1, 2):
        raise invalid(f"Expected one or two output Tensors, found {len(signature.outputs)}")
    if _INPUT not in signature.inputs:
        raise invalid(f"No classification inputs found in SignatureDef: {signature}")
    if not signature.outputs.keys() & {_CLASSES, _SCORES}:
        expected = f'Expected classification signature outputs to contain at least one of "{_CLASSES}" or "{_SCORES}"'
        raise invalid(f"{expected}. Signature was: {signature}")


def _check_regression(signature) -> None:
    if len(signature.outputs) != 1:
        raise invalid("Expected one output Tensor.")
    if _INPUT not in signature.inputs:
        raise invalid(f"No regression inputs found in SignatureDef: {signature}")
    if _OUTPUT not in signature.outputs:
        raise invalid(f"No regression outputs found in SignatureDef: {signature}")


def _shape_text(array: np.ndarray) -> str:
    return f"[{','.join(map(str, array.shape))}]"


def _enum_name(dtype) -> str:
    return types_pb2.DataType.Name(tf.as_dtype(dtype).as_datatype_enum)
