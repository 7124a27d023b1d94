"""Fixtures to run TensorFlow functions eagerly: tracing and compiling take most of the time of a test."""

import contextlib

import pytest


@pytest.fixture(scope="module", autouse=True)
def eager_functions():
    """Runs each `tf.function` eagerly, except in tests that use `graphs`."""
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@contextlib.contextmanager
def in_graphs():
    """Traces and compiles functions, as usual."""
    import tensorflow as tf

    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(False)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(before)


@pytest.fixture
def graphs():
    """Traces and compiles functions in a test about graphs, XLA or exports."""
    with in_graphs():
        yield
