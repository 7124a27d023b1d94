"""What the Keras model answers to an example request: the measure of its export."""

import keras
import numpy as np
import tensorflow as tf

from keras_dl.errors import UserError, reason_of
from keras_dl.pipeline import Pipeline
from keras_dl.serving.export.differing import differing
from keras_dl.serving.export.endpoints import Endpoint, endpoints_of
from keras_dl.serving.export.rows import Arrays, has_rows, ragged


def answer(pipeline: Pipeline, model: keras.Model, request: dict) -> dict:
    """What the default signature answers to a request, without an export: tried on the untrained model already.

    Args:
        pipeline: for its `signatures`.
        model: trained or not.
        request: `{input: array}`; the key "" stands for the only input.

    Returns:
        `{output name: tensor}`.

    Raises:
        UserError: if there is no default signature, or it and the request do not fit together.
    """
    endpoint = endpoints_of(pipeline, model)["serving_default"]
    return _ask(pipeline, endpoint, request_arrays(pipeline, endpoint, request))


def request_arrays(pipeline: Pipeline, endpoint: Endpoint, request: dict) -> Arrays:
    """A request with the names and dtypes of an endpoint's inputs; texts as object arrays of bytes.

    Raises:
        UserError: if it has other names, or a value that is no such tensor.
    """
    names = {spec.name for spec in endpoint.inputs}
    if set(request) != names and not (len(names) == 1 and set(request) == {""}):
        raise UserError(
            f"request(example) must give {', '.join(sorted(names))}. Received: {', '.join(sorted(request))}"
        )
    arrays = {}
    for spec in endpoint.inputs:
        try:
            tensor = tf.cast(request[spec.name if spec.name in request else ""], spec.dtype)
        except (ValueError, TypeError, tf.errors.OpError) as error:
            raise _cannot_answer(pipeline, error) from error
        arrays[spec.name] = np.asarray(tensor.numpy(), object if spec.dtype == tf.string else None)
    if has_rows(endpoint.shapes) and any(array.shape[:1] == (0,) for array in arrays.values()):
        raise UserError(f"request(example) of {pipeline.name} must give a row at least. Received: none")
    return arrays


def expected_answers(pipeline: Pipeline, endpoint: Endpoint, request: Arrays) -> list[tuple[Arrays, Arrays]]:
    """What the model answers: to the example, to rows of different lengths padded to one, to no rows.

    Returns:
        `(request, answer)` each. What the model itself refuses, but for the example, is left out.

    Raises:
        UserError: if it cannot answer the example, or answers it otherwise each time.
    """
    asked = [request]
    if has_rows(endpoint.shapes):
        asked += [ragged(request, endpoint.shapes), {name: array[:0] for name, array in request.items()}]
    found = []
    for arrays in asked:
        try:
            answered = _numbers(_ask(pipeline, endpoint, arrays))
        except UserError:
            if arrays is request:
                raise
            continue
        found.append((arrays, answered))
    again = _numbers(_ask(pipeline, endpoint, request))
    for name, before in found[0][1].items():
        if difference := differing(before, again[name]):
            raise UserError(
                f"the model of {pipeline.name} answers one request otherwise each time: {name} {difference}. If it "
                "draws random numbers, take a seed as an input; if it keeps state, take that as in- and output"
            )
    return found


def _numbers(tensors):
    return {name: tensor.numpy() for name, tensor in tensors.items()}


def _ask(pipeline, endpoint, arrays):
    try:
        return endpoint.function(*(tf.constant(arrays[spec.name], spec.dtype) for spec in endpoint.inputs))
    except UserError:
        raise
    except (ValueError, TypeError, tf.errors.OpError) as error:
        raise _cannot_answer(pipeline, error) from error


def _cannot_answer(pipeline, error):
    return UserError(f"the signature of {pipeline.name} cannot answer its own request: {reason_of(error)}")
