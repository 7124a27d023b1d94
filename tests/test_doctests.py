"""The examples in the docstrings: run, and there for everything public."""

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
# Where every function and class is for users; of keras_dl.data that is what the package itself offers, and ops.
PARTS = tuple(f"keras_dl.{part}." for part in ("ops", "layers", "losses", "metrics", "models"))
PACKAGES = {module.name for module in pkgutil.walk_packages(keras_dl.__path__, "keras_dl.") if module.ispkg}
SHOWN = ["keras_dl.data.ops"] + [name for name in MODULES if name.startswith(PARTS) and name not in PACKAGES]


@pytest.fixture(scope="module", autouse=True)
def digit_strings_prepared():
    """What TFDS prints when it prepares a set is not of the example that happens to need it first."""
    importlib.import_module("keras_dl.data.sources").prepared("digit_strings")


@pytest.mark.parametrize("name", MODULES)
def test_examples_are_true(name):
    module = importlib.import_module(name)
    results = doctest.testmod(module, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE, report=True)
    assert results.failed == 0, f"{results.failed} of {results.attempted} examples of {name}; see the output"


def public(name):
    """The public functions and classes that a module defines; classes that only hold values explain themselves."""
    for key, value in vars(importlib.import_module(name)).items():
        if (inspect.isfunction(value) or inspect.isclass(value)) and value.__module__ == name and key[0] != "_":
            methods = [n for n, v in vars(value).items() if inspect.isfunction(v) and n[0] != "_"]
            if methods or not dataclasses.is_dataclass(value):
                yield key, value


def offered_data():
    data = importlib.import_module("keras_dl.data")
    return [(key, value) for key, value in vars(data).items() if callable(value) and key[0] != "_"]


@pytest.mark.parametrize("name", SHOWN)
def test_everything_for_users_has_an_example(name):
    found = list(public(name))
    assert found
    assert [key for key, value in found if ">>> " not in (inspect.getdoc(value) or "")] == []


def test_what_data_offers_has_an_example():
    found = offered_data()
    assert {"Splits", "batches", "fingerprint", "load"} <= {key for key, _ in found}
    assert [key for key, value in found if ">>> " not in (inspect.getdoc(value) or "")] == []
