"""Metadata that a chief and its workers add to Keras Tuner's messages.

Those messages have metrics in single precision only, no error message of a failed trial and no information about the
caller. These are sent as one JSON object in the metadata of each call and response.
"""

import json

import keras
import tensorflow as tf

import keras_dl
from keras_dl.pipeline import Pipeline

LIMIT = 4 * 2**20  # bytes of one message, and of its metadata
_KEY = "keras-dl-bin"
_BOTH = [
    ("grpc.max_send_message_length", LIMIT),
    ("grpc.max_receive_message_length", LIMIT),
    ("grpc.max_metadata_size", LIMIT),
    ("grpc.absolute_max_metadata_size", LIMIT),
]
CHIEF_OPTIONS = [
    *_BOTH,
    ("grpc.so_reuseport", 0),  # otherwise two chiefs could share a port, each with half of the calls
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5000),
]
WORKER_OPTIONS = [
    *_BOTH,
    ("grpc.keepalive_time_ms", 10000),  # detects that the chief's machine has vanished
    ("grpc.keepalive_timeout_ms", 10000),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2000),
    ("grpc.enable_http_proxy", 0),
]


def pack(content: dict) -> list[tuple[str, bytes]]:
    """Returns a JSON object as metadata of a call or response."""
    return [(_KEY, json.dumps(content).encode())]


def unpack(metadata) -> dict:
    """Returns the object that `pack` wrote; {} if there is none."""
    for key, value in metadata or ():
        if key == _KEY:
            content = json.loads(value)
            if not isinstance(content, dict):
                raise ValueError(f"expected a JSON object. Received: {type(content).__name__}")
            return content
    return {}


def identity(pipeline: Pipeline) -> dict:
    """Returns what must be equal on a chief and its workers: versions, name and file digests of the pipeline."""
    versions = {"keras_dl": keras_dl.__version__, "keras": keras.__version__, "tensorflow": tf.__version__}
    return {"versions": versions, "pipeline": pipeline.name, "digests": pipeline.digests}


def difference(chief: dict, worker: dict) -> str | None:
    """Returns a description of the first difference between two identities; None if they are equal."""
    theirs = worker.get("versions")
    theirs = theirs if isinstance(theirs, dict) else {}
    for package, version in chief["versions"].items():
        if theirs.get(package) != version:
            return (
                f"the chief has {package} {version}, the worker {theirs.get(package, 'none')}: install the same version"
            )
    if worker.get("pipeline") != chief["pipeline"]:
        return f"the chief searches the pipeline {chief['pipeline']}; the worker has {worker.get('pipeline')}"
    own, others = chief["digests"], worker.get("digests")
    others = others if isinstance(others, dict) else {}
    for file in dict.fromkeys((*own, *others)):
        if own.get(file) != others.get(file):
            return (
                f"{file} of the pipeline {chief['pipeline']} differs: its SHA-256 is {_shown(own.get(file))} at the "
                f"chief, {_shown(others.get(file))} at the worker. Copy the chief's files"
            )
    return None


def _shown(digest):
    return f"{str(digest)[:12]}..." if digest else "missing"
