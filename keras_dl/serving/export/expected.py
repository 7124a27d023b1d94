"""Answers of the Keras model to example requests, which its export must reproduce."""

import keras
import numpy as np
import tensorflow as tf

from keras_dl.errors import UserError, reason_of
from keras_dl.pipeline import Pipeline
from keras_dl.serving.export.endpoints import Endpoint, endpoints_of
from keras_dl.serving.export.measured import difference_of
from keras_dl.serving.export.rows import Arrays, has_rows, ragged


def answer(pipeline: Pipeline, model: keras.Model, request: dict) -> dict:
    """Runs the default signature on `{input: array}` without an export, to find errors before the model is trained.

    The key "" stands for the only input. UserError is raised if the request does not fit the signature.
    """
    endpoint = endpoints_of(pipeline, model)["serving_default"]
    return _run(pipeline, endpoint, request_arrays(pipeline, endpoint, request))


def request_arrays(pipeline: Pipeline, endpoint: Endpoint, request: dict) -> Arrays:
    """Converts a request to arrays named and typed like an endpoint's inputs; strings to object arrays of bytes."""
    names = {spec.name for spec in endpoint.inputs}
    if not isinstance(request, dict):
        raise UserError(f"request(example) of {pipeline.name} must return a dictionary. Received: {request!r:.100}")
    if set(request) != names and not (len(names) == 1 and set(request) == {""}):
        raise UserError(
            f"request(example) must return {', '.join(sorted(names))}. Received: {', '.join(sorted(request))}"
        )
    arrays = {}
    for spec in endpoint.inputs:
        try:
            tensor = tf.cast(request[spec.name if spec.name in request else ""], spec.dtype)
        except (ValueError, TypeError, tf.errors.OpError) as error:
            raise _cannot_answer(pipeline, error) from error
        arrays[spec.name] = np.asarray(tensor.numpy(), object if spec.dtype == tf.string else None)
    if has_rows(endpoint.shapes) and any(array.shape[:1] == (0,) for array in arrays.values()):
        raise UserError(f"request(example) of {pipeline.name} must return at least one row. Received: none")
    return arrays


def expected_answers(pipeline: Pipeline, endpoint: Endpoint, request: Arrays) -> list[tuple[Arrays, Arrays]]:
    """Runs the model on the example, on rows of different lengths padded to equal length, and on an empty batch.

    Returns pairs `(request, answer)`, without requests other than the example that the model rejects. UserError is
    raised if the model fails on the example, or answers it differently from call to call.
    """
    requests = [request]
    if has_rows(endpoint.shapes):
        requests += [ragged(request, endpoint.shapes), {name: array[:0] for name, array in request.items()}]
    found = []
    for arrays in requests:
        try:
            answered = _numpy(_run(pipeline, endpoint, arrays))
        except UserError:
            if arrays is request:
                raise
            continue
        found.append((arrays, answered))
    again = _numpy(_run(pipeline, endpoint, request))
    for name, before in found[0][1].items():
        if difference := difference_of(before, again[name]):
            raise UserError(
                f"the model of {pipeline.name} answers the same request differently each time: {name} {difference}. If "
                "it draws random numbers, make the seed an input; if it keeps state, make the state an input and an "
                "output"
            )
    return found


def _numpy(tensors):
    return {name: tensor.numpy() for name, tensor in tensors.items()}


def _run(pipeline, endpoint, arrays):
    try:
        return endpoint.function(*(tf.constant(arrays[spec.name], spec.dtype) for spec in endpoint.inputs))
    except UserError:
        raise
    except (ValueError, TypeError, tf.errors.OpError) as error:
        raise _cannot_answer(pipeline, error) from error


def _cannot_answer(pipeline, error):
    return UserError(f"the signature of {pipeline.name} cannot answer its own request: {reason_of(error)}")
