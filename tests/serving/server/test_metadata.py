"""Status and metadata over REST: TF Serving's answers for its half-plus-two model."""

import pytest

PATH = "/v1/models/half_plus_two"


@pytest.mark.parametrize("path", ["", "/versions/123", "/labels/stable", "/labels/any", "/METADATA"])
def test_status(send, path):
    status = {"version": "123", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    assert send("GET", PATH + path) == (200, {"model_version_status": [status]})


def tensor(name, dtype="DT_FLOAT"):
    dims = [] if dtype == "DT_STRING" else [{"size": size, "name": ""} for size in ("-1", "1")]
    return {"dtype": dtype, "tensor_shape": {"dim": dims, "unknown_rank": not dims}, "name": f"{name}:0"}


def signature(method, inputs, outputs):
    return {"inputs": inputs, "outputs": outputs, "method_name": f"tensorflow/serving/{method}", "defaults": {}}


@pytest.mark.parametrize("path", ["", "/versions/123", "/labels/stable"])
def test_metadata(send, path):
    example = {"inputs": tensor("tf_example", "DT_STRING")}
    signatures = {
        "serving_default": signature("predict", {"x": tensor("x")}, {"y": tensor("y")}),
        "regress_x_to_y": signature("regress", example, {"outputs": tensor("y")}),
        "regress_x_to_y2": signature("regress", example, {"outputs": tensor("y2")}),
        "regress_x2_to_y3": signature("regress", {"inputs": tensor("x2")}, {"outputs": tensor("y3")}),
        "classify_x_to_y": signature("classify", example, {"scores": tensor("y")}),
        "classify_x2_to_y3": signature("classify", {"inputs": tensor("x2")}, {"scores": tensor("y3")}),
    }
    expected = {
        "model_spec": {"name": "half_plus_two", "signature_name": "", "version": "123"},
        "metadata": {"signature_def": {"signature_def": signatures}},
    }
    assert send("GET", f"{PATH}{path}/metadata") == (200, expected)


def test_metadata_of_unknown_versions(send):
    status, answer = send("GET", f"{PATH}/labels/any/metadata")
    assert (status, answer) == (400, {"error": "Unrecognized servable version label: any"})
    status, answer = send("GET", f"{PATH}/versions/1/metadata")
    assert (status, answer) == (404, {"error": "Servable not found for request: Specific(half_plus_two, 1)"})


def test_metadata_of_a_tf2_model(send):
    _, answer = send("GET", "/v1/models/hp2/metadata")
    signatures = answer["metadata"]["signature_def"]["signature_def"]
    assert "__saved_model_init_op" in signatures
    assert signatures["product"]["inputs"]["x"]["tensor_shape"]["dim"][1] == {"size": "3", "name": ""}
