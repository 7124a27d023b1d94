"""Classify, Regress and MultiInference over gRPC: TensorFlow Serving's answers, codes and messages."""

import grpc
import pytest
from google.protobuf import text_format
from tensorflow_serving.apis import classification_pb2, inference_pb2, prediction_service_pb2_grpc, regression_pb2

CLASSIFY, REGRESS = "tensorflow/serving/classify", "tensorflow/serving/regress"


@pytest.fixture(scope="module")
def stub(grpc_address):
    with grpc.insecure_channel(grpc_address) as channel:
        yield prediction_service_pb2_grpc.PredictionServiceStub(channel)


def add_examples(request, *values):
    for value in values:
        example = request.input.example_list.examples.add()
        example.features.feature["x"].float_list.value.append(value)
    return request


def classify(signature_name, *values, name="scores"):
    request = classification_pb2.ClassificationRequest()
    request.model_spec.name, request.model_spec.signature_name = name, signature_name
    return add_examples(request, *values)


def regress(signature_name, *values, name="scores"):
    request = regression_pb2.RegressionRequest()
    request.model_spec.name, request.model_spec.signature_name = name, signature_name
    return add_examples(request, *values)


def multi(*tasks, values=(2.0,)):
    request = inference_pb2.MultiInferenceRequest()
    for name, signature_name, method in tasks:
        task = request.tasks.add(method_name=method)
        task.model_spec.name, task.model_spec.signature_name = name, signature_name
    return add_examples(request, *values)


def error_of(call, request):
    with pytest.raises(grpc.RpcError) as caught:
        call(request, timeout=30)
    return caught.value.code().name, caught.value.details()


def same(message, text):
    return message == text_format.Parse(text, type(message)())


def spec(signature_name):
    return f'model_spec {{ name: "scores" version {{ value: 1 }} signature_name: "{signature_name}" }}'


def test_classify(stub):
    assert same(
        stub.Classify(classify("classify_x_to_y", 2.0, 80.0)),
        "result { classifications { classes { score: 3 } } classifications { classes { score: 42 } } }"
        + spec("classify_x_to_y"),
    )
    assert same(
        stub.Classify(classify("classify_sign", -2.0)),
        'result { classifications { classes { label: "negative" score: 2 } classes { label: "positive" score: -2 } } }'
        + spec("classify_sign"),
    )


def test_regress(stub):
    assert same(
        stub.Regress(regress("regress_x_to_y", 2.0, 4.0)),
        "result { regressions { value: 3 } regressions { value: 4 } }" + spec("regress_x_to_y"),
    )
    assert same(stub.Regress(regress("", 2.0)), "result { regressions { value: 3 } }" + spec("serving_default"))


def test_the_context_is_added_to_each_example(stub):
    request = regress("regress_x_to_y")
    request.input.example_list_with_context.context.features.feature["x"].float_list.value.append(8.0)
    examples = request.input.example_list_with_context.examples
    examples.add()
    examples.add().features.feature["x"].float_list.value.append(2.0)
    assert [found.value for found in stub.Regress(request).result.regressions] == [6.0, 3.0]


@pytest.mark.parametrize(
    "call, make, problem",
    [
        ("Classify", lambda: classification_pb2.ClassificationRequest(), "Missing ModelSpec"),
        ("Regress", lambda: regression_pb2.RegressionRequest(), "Missing ModelSpec"),
        ("Classify", lambda: classify("", 1.0, name=""), "ModelSpec has no name specified."),
        ("Classify", lambda: classify("nope", 1.0), "No signature was found with the name: nope"),
        ("Regress", lambda: regress("nope", 1.0), "No signature was found with the name: nope"),
        ("Classify", lambda: classify("classify_x_to_y"), "Input is empty."),
        ("Regress", lambda: regress("regress_x_to_y"), "Input is empty."),
        ("Classify", lambda: classify("regress_x_to_y", 1.0), "Expected classification signature outputs to contain"),
        ("Regress", lambda: regress("classify_sign", 1.0), "Expected one output Tensor."),
        ("Regress", lambda: regress("classify_x_to_y", 1.0), "No regression outputs found in SignatureDef: "),
        ("Regress", lambda: regress("", 1.0, name="hp2"), "No regression inputs found in SignatureDef: "),
    ],
)
def test_errors(stub, call, make, problem):
    code, details = error_of(getattr(stub, call), make())
    assert code == "INVALID_ARGUMENT" and details.startswith(problem)


def test_an_unknown_model_is_not_found(stub):
    assert error_of(stub.Classify, classify("", 1.0, name="foo")) == (
        "NOT_FOUND",
        "Servable not found for request: Latest(foo)",
    )


def test_several_signatures_for_the_same_examples(stub):
    response = stub.MultiInference(
        multi(("scores", "regress_x_to_y", REGRESS), ("scores", "classify_x_to_y", CLASSIFY), values=(2.0, 4.0))
    )
    assert same(
        response,
        "results { regression_result { regressions { value: 3 } regressions { value: 4 } }"
        + spec("regress_x_to_y")
        + "} results { classification_result { classifications { classes { score: 3 } } "
        + "classifications { classes { score: 4 } } }"
        + spec("classify_x_to_y")
        + "}",
    )
    response = stub.MultiInference(multi(("scores", "regress_x_to_y", REGRESS), ("scores", "regress_x_to_y2", REGRESS)))
    assert [found.regression_result.regressions[0].value for found in response.results] == [3.0, 4.0]
    assert stub.MultiInference(multi(("scores", "", REGRESS))).results[0].model_spec.signature_name == "serving_default"


GOOD = ("scores", "regress_x_to_y", REGRESS)


@pytest.mark.parametrize(
    "tasks, code, problem",
    [
        ([], "INVALID_ARGUMENT", "ModelSpec has no name specified."),
        ([("", "", REGRESS)], "INVALID_ARGUMENT", "ModelSpec has no name specified."),
        ([("foo", "", REGRESS)], "NOT_FOUND", "Servable not found for request: Latest(foo)"),
        ([GOOD, ("", "", REGRESS)], "INVALID_ARGUMENT", "Found ModelSpec with an empty model name."),
        ([GOOD, ("foo", "", REGRESS)], "INVALID_ARGUMENT", "must access the same model name"),
        ([GOOD, GOOD], "INVALID_ARGUMENT", "Duplicate evaluation of signature: regress_x_to_y"),
        ([("scores", "nope", REGRESS)], "INVALID_ARGUMENT", "Requested signature not found in model graph: nope"),
        (
            [("scores", "serving_default", "tensorflow/serving/predict")],
            "UNIMPLEMENTED",
            "Unsupported signature method_name: tensorflow/serving/predict",
        ),
        ([("scores", "regress_x_to_y", CLASSIFY)], "INVALID_ARGUMENT", "Expected classification signature outputs"),
    ],
)
def test_invalid_tasks_are_rejected(stub, tasks, code, problem):
    found, details = error_of(stub.MultiInference, multi(*tasks))
    assert found == code and problem in details


def test_tasks_without_examples_are_rejected(stub):
    assert error_of(stub.MultiInference, multi(GOOD, values=())) == ("INVALID_ARGUMENT", "Input is empty.")
