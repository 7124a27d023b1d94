"""Rules for operations that reach outside the graph, by their name or by the attributes of a node."""

import pytest
from tensorflow.core.framework import node_def_pb2, op_def_pb2
from tensorflow.python.client import pywrap_tf_session

from keras_dl.serving.export.operations import RULES, rule_of


def node(operation, **texts):
    made = node_def_pb2.NodeDef(op=operation)
    for name, text in texts.items():
        made.attr[name].s = text
    return made


def level(made, constant=None):
    rule = rule_of(made, lambda index: constant)
    return rule and rule.level


@pytest.mark.parametrize(
    "operation",
    [
        "WriteFile", "ReadFile", "SaveDatasetV2", "TextLineDataset", "RecordInput", "Skipgram", "DatasetFromGraph",
        "Abort", "EagerPyFunc", "RpcCall", "DataServiceDatasetV4", "DebugIdentityV3", "DebugNumericSummaryV2",
        "LoadAndRemapMatrix",
    ],
)  # fmt: skip
def test_operations_that_are_always_unsafe(operation):
    assert level(node(operation)) == "unsafe"


@pytest.mark.parametrize(
    ("stream", "expected"),
    [(b"stderr", "warning"), (b"stdout", "warning"), (b"log(info)", "warning"), (b"file:///x", "unsafe"),
     (b"stdout2", "unsafe"), (b"", "warning")],
)  # fmt: skip
def test_print_depends_on_the_stream(stream, expected):
    assert level(node("PrintV2", output_stream=stream)) == expected


def test_missing_attributes_have_their_defaults():
    assert level(node("PrintV2")) == "warning"
    assert level(node("FixedUnigramCandidateSampler")) is None
    assert level(node("DecodeProtoV2")) is None


@pytest.mark.parametrize("operation", ["CacheDataset", "CacheDatasetV2"])
@pytest.mark.parametrize(("name", "expected"), [(b"", None), (b"/x", "unsafe"), (None, "unsafe")])
def test_cache_depends_on_the_file_name(operation, name, expected):
    assert level(node(operation), name) == expected


def test_file_names_in_attributes():
    assert level(node("FixedUnigramCandidateSampler", vocab_file=b"/etc/passwd")) == "unsafe"
    for operation in ("EncodeProto", "DecodeProtoV2"):
        assert level(node(operation, descriptor_source=b"/etc/passwd")) == "unsafe"
        assert level(node(operation, descriptor_source=b"local://")) is None
        assert level(node(operation, descriptor_source=b"bytes://\n\x00")) is None


def test_every_registered_operation_with_a_file_name_has_a_rule():
    """New versions of TensorFlow may register more."""
    registered = op_def_pb2.OpList.FromString(pywrap_tf_session.TF_GetBuffer(pywrap_tf_session.TF_GetAllOpList()))
    named = {"filename", "filenames", "file_pattern", "vocab_file", "file_prefix", "descriptor_source", "debug_urls"}
    named |= {"old_vocab_file", "memory_region_name", "logdir", "checkpoint_prefixes", "ckpt_path", "address"}
    reaching = {
        each.name for each in registered.op
        if named & {*(argument.name for argument in each.input_arg), *(attribute.name for attribute in each.attr)}
    }  # fmt: skip
    by_node = {"CacheDataset", "CacheDatasetV2", "FixedUnigramCandidateSampler", "EncodeProto", "DecodeProtoV2"}
    assert len(reaching) > 30
    assert {name for name in reaching if not any(rule.matches(name) for rule in RULES)} == by_node
