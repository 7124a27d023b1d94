"""TensorFlow Serving's PredictionService over gRPC.

Source: ``model_servers/prediction_service_impl.cc``, ``servables/tensorflow/{predict_util,multi_inference,
get_model_metadata_impl}.cc`` of https://github.com/tensorflow/serving and ``cc/saved_model/util.cc`` of
https://github.com/tensorflow/tensorflow, with the same messages and order of checks. Deliberately stricter: see
`keras_dl.serving.tensors.to_array`.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    inference_pb2,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from keras_dl.serving.server.engine import LoadedModel
from keras_dl.serving.server.errors import invalid
from keras_dl.serving.server.examples import classifications, example_inputs, regressions
from keras_dl.serving.server.grpc.calls import answered, check_model_spec, find_model
from keras_dl.serving.server.inference import Inference
from keras_dl.serving.tensors import to_array, to_proto

_SIGNATURE_DEF = "signature_def"
_DEFAULT = "serving_default"
_LONGEST_SECONDS = 24 * 3600  # gRPC reports centuries for a call without a deadline
_METHODS = {"tensorflow/serving/classify": "classify", "tensorflow/serving/regress": "regress"}


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """The PredictionService of an `Inference`.

    Args:
        inference: runs the models.
        largest_tensor: maximum number of bytes that an input may need beyond the size of its message.
    """

    def __init__(self, inference: Inference, largest_tensor: int):
        self._inference, self._largest_tensor = inference, largest_tensor

    def record(self, request, api: str, code: str, seconds: float) -> None:
        """Records a call in the metrics."""
        specs = [task.model_spec for task in request.tasks[:1]] if api == "MultiInference" else [request.model_spec]
        name = specs[0].name if specs else ""
        self._inference.metrics.request(name, api, "GRPC", code, seconds)

    @answered
    def Predict(self, request, context):  # noqa: N802, the service's own name
        """Runs a signature."""
        check_model_spec(request)
        model = find_model(self._inference.store, request.model_spec)
        signature_name = request.model_spec.signature_name or _DEFAULT
        signature = model.signatures.get(signature_name)
        if signature is None:
            problem = f'Serving signature key "{signature_name}" not found.'
            raise tf.errors.FailedPreconditionError(None, None, problem)
        inputs = _read_inputs(signature, request.inputs, self._largest_tensor)
        wanted = _wanted_outputs(signature, request.output_filter)
        outputs = self._start(context, model, signature_name, inputs, "Predict").result()
        response = predict_pb2.PredictResponse()
        _fill_model_spec(response.model_spec, model, signature_name)
        for name in wanted:
            response.outputs[name].CopyFrom(to_proto(outputs[name]))
        return response

    @answered
    def Classify(self, request, context):  # noqa: N802
        """Returns labels and scores of examples."""
        response = classification_pb2.ClassificationResponse()
        self._run_examples(request, context, "classify", response)
        return response

    @answered
    def Regress(self, request, context):  # noqa: N802
        """Returns values of examples."""
        response = regression_pb2.RegressionResponse()
        self._run_examples(request, context, "regress", response)
        return response

    @answered
    def MultiInference(self, request, context):  # noqa: N802
        """Runs classify and regress signatures of one model on the same examples."""
        tasks = list(request.tasks)
        model = find_model(self._inference.store, (tasks or [inference_pb2.InferenceTask()])[0].model_spec)
        examples = _examples(request.input)
        runs = [example_inputs(model, *task) for task in _checked_tasks(model, tasks, examples)]
        futures = [self._start(context, model, *run, "MultiInference") for run in runs]
        response = inference_pb2.MultiInferenceResponse()
        for task, (signature_name, _), future in zip(tasks, runs, futures, strict=True):
            result = response.results.add()
            if _METHODS[task.method_name] == "classify":
                _fill_classifications(result.classification_result, future.result(), len(examples))
            else:
                _fill_regressions(result.regression_result, future.result(), len(examples))
            _fill_model_spec(result.model_spec, model, signature_name)
        return response

    @answered
    def GetModelMetadata(self, request, context):  # noqa: N802
        """Returns the signatures of a model."""
        check_model_spec(request)
        if not request.metadata_field:
            raise invalid("GetModelMetadataRequest must specify at least one metadata_field")
        for field in request.metadata_field:
            if field != _SIGNATURE_DEF:
                raise invalid(f"Metadata field {field} is not supported")
        model = find_model(self._inference.store, request.model_spec)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        for name, signature in model.signatures.items():
            signatures.signature_def[name].CopyFrom(signature)
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        _fill_model_spec(response.model_spec, model)
        response.metadata[_SIGNATURE_DEF].Pack(signatures)
        return response

    def _run_examples(self, request, context, method: str, response) -> None:
        check_model_spec(request)
        model = find_model(self._inference.store, request.model_spec)
        examples = _examples(request.input)
        run = example_inputs(model, request.model_spec.signature_name, examples, method)
        fill, api = {"classify": (_fill_classifications, "Classify"), "regress": (_fill_regressions, "Regress")}[method]
        fill(response.result, self._start(context, model, *run, api).result(), len(examples))
        _fill_model_spec(response.model_spec, model, run[0])

    def _start(self, context, model: LoadedModel, signature_name: str, inputs: Mapping[str, np.ndarray], api: str):
        """Starts a run that is canceled after the client's deadline, or when the client disconnects."""
        remaining = context.time_remaining()
        remaining = remaining if remaining is not None and remaining < _LONGEST_SECONDS else None
        future = self._inference.submit(model, signature_name, inputs, remaining, api)
        if not context.add_callback(future.cancel):
            future.cancel()
        return future


def _read_inputs(signature, sent: Mapping, largest: int) -> dict[str, np.ndarray]:
    expected, defaults = signature.inputs, signature.defaults
    if len(sent) > len(expected) or (len(sent) < len(expected) and not defaults):
        counts = f"{len(sent)}!={len(expected)} len({_names(sent)}) != len({_names(expected)})"
        names = f"Sent extra: {_names(set(sent) - set(expected))}."
        missing = f"Missing but required: {_names(set(expected) - set(sent))}."
        raise invalid(f"input size does not match signature: {counts}. {names} {missing}")
    arrays = {}
    for name in sorted(expected):
        if name not in sent and name not in defaults:
            where = f"Signature input alias: {name}(feed name: {expected[name].name}) not found in request"
            problem = f"and no default value provided. Inputs expected to be in the request {_names(sent)}"
            raise invalid(f"{where} {problem}, or default input alias set: {','.join(sorted(defaults))}")
        try:
            arrays[name] = to_array(sent[name] if name in sent else defaults[name], largest)
        except ValueError as error:
            raise invalid(f"tensor parsing error: {name}: {error}") from None
    if extra := set(sent) - set(expected):
        used = ",".join(sorted(set(sent) - extra))
        raise invalid(
            f"Inputs contains invalid name. Used request inputs: {used}, request input: {','.join(sorted(sent))}"
        )
    return arrays


def _wanted_outputs(signature, output_filter: Sequence[str]) -> list[str]:
    seen = []
    for name in output_filter:
        if name not in signature.outputs:
            expected = f"Outputs expected to be in the set {_names(signature.outputs)}."
            raise invalid(f"output tensor alias not found in signature: {name} {expected}")
        if name in seen:
            raise invalid(f"duplicate output tensor alias: {name}")
        seen.append(name)
    return seen or sorted(signature.outputs)


def _checked_tasks(model: LoadedModel, tasks: Sequence, examples: list[bytes]):
    """Returns the arguments of `example_inputs` for each task."""
    checked = []
    for task in tasks:
        signature_name = task.model_spec.signature_name or _DEFAULT
        if not task.model_spec.name:
            raise invalid("Found ModelSpec with an empty model name.")
        if task.model_spec.name != model.name:
            raise invalid("All ModelSpecs in a MultiInferenceRequest must access the same model name.")
        if signature_name in [name for name, *_ in checked]:
            raise invalid(f"Duplicate evaluation of signature: {signature_name}")
        if signature_name not in model.signatures:
            raise invalid(f"Requested signature not found in model graph: {signature_name}")
        if task.method_name not in _METHODS:
            problem = f"Unsupported signature method_name: {task.method_name}"
            raise tf.errors.UnimplementedError(None, None, problem)
        checked.append((signature_name, examples, _METHODS[task.method_name]))
    return checked


def _examples(sent) -> list[bytes]:
    """Returns the serialized examples of an Input, each preceded by the common context; [] if there are none."""
    if sent.WhichOneof("kind") == "example_list_with_context":
        context = sent.example_list_with_context.context.SerializeToString()
        return [context + example.SerializeToString() for example in sent.example_list_with_context.examples]
    return [example.SerializeToString() for example in sent.example_list.examples]


def _fill_classifications(result, outputs: Mapping[str, np.ndarray], count: int) -> None:
    for classes in classifications(outputs, count):
        added = result.classifications.add().classes
        for label, score in classes:
            added.add(label=label, score=score)


def _fill_regressions(result, outputs: Mapping[str, np.ndarray], count: int) -> None:
    for value in regressions(outputs, count):
        result.regressions.add(value=value)


def _fill_model_spec(spec, model: LoadedModel, signature_name: str = "") -> None:
    spec.name, spec.signature_name = model.name, signature_name
    spec.version.value = model.version


def _names(names) -> str:
    return f"{{{','.join(sorted(names))}}}"
