"""The examples in docstrings are correct, and everything public has one."""

import dataclasses
import doctest
import importlib
import inspect
import pkgutil

import pytest

import keras_dl

MODULES = ["keras_dl"] + [
    module.name
    for module in pkgutil.walk_packages(keras_dl.__path__, "keras_dl.")
    if not module.name.startswith("keras_dl.starter")
]
# Packages whose functions and classes are all public; in keras_dl.data, these are its exported names and `ops`.
PARTS = tuple(f"keras_dl.{part}." for part in ("ops", "layers", "losses", "metrics", "models"))
PACKAGES = {module.name for module in pkgutil.walk_packages(keras_dl.__path__, "keras_dl.") if module.ispkg}
SHOWN = ["keras_dl.data.ops"] + [name for name in MODULES if name.startswith(PARTS) and name not in PACKAGES]


@pytest.fixture(scope="module", autouse=True)
def digit_strings_prepared():
    """Prepares the data set first, because the output of TFDS would otherwise appear in an example."""
    importlib.import_module("keras_dl.data.sources").prepared("digit_strings")


@pytest.mark.parametrize("name", MODULES)
def test_examples_are_correct(name):
    module = importlib.import_module(name)
    results = doctest.testmod(module, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE, report=True)
    assert results.failed == 0, f"{results.failed} of {results.attempted} examples of {name}; see the output"


def public(name):
    """The public functions and classes that a module defines, except data classes without methods."""
    for key, value in vars(importlib.import_module(name)).items():
        if (inspect.isfunction(value) or inspect.isclass(value)) and value.__module__ == name and key[0] != "_":
            methods = [n for n, v in vars(value).items() if inspect.isfunction(v) and n[0] != "_"]
            if methods or not dataclasses.is_dataclass(value):
                yield key, value


def exported_data():
    data = importlib.import_module("keras_dl.data")
    return [(key, value) for key, value in vars(data).items() if callable(value) and key[0] != "_"]


@pytest.mark.parametrize("name", SHOWN)
def test_everything_public_has_an_example(name):
    found = list(public(name))
    assert found
    assert [key for key, value in found if ">>> " not in (inspect.getdoc(value) or "")] == []


def test_exports_of_data_have_examples():
    found = exported_data()
    assert {"Splits", "batches", "fingerprint", "load"} <= {key for key, _ in found}
    assert [key for key, value in found if ">>> " not in (inspect.getdoc(value) or "")] == []
