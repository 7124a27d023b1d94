"""Modules beside a pipeline's file."""

import sys

import pytest

from keras_dl.errors import UserError
from keras_dl.local_modules import local_modules
from keras_dl.pipeline import load_pipeline


@pytest.fixture
def write(tmp_path):
    """write(name=text): files in one folder; returns the path of `pipeline.py`."""

    def write(folder=tmp_path, **texts):
        for name, text in texts.items():
            file = folder / (name.replace(".", "/") + ".py")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        return folder / "pipeline.py"

    yield write
    for name in ("kdl_layers", "kdl_parts", "kdl_parts.scale", "kdl_late"):
        sys.modules.pop(name, None)


FUNCTIONS = "def data(hp): ...\ndef build(hp): ...\n"


def test_direct_and_indirect_imports_are_found_without_running_them(write, tmp_path):
    file = write(
        pipeline="import os, keras, kdl_layers as layers\ndef build():\n from kdl_parts import scale\n",
        kdl_layers="1 / 0\nfrom kdl_parts.shift import by\nimport pipeline",
        unused="",
        **{
            "kdl_parts.__init__": "",
            "kdl_parts.scale": "from . import names",
            "kdl_parts.shift": "",
            "kdl_parts.names": "",
        },
    )
    found = local_modules(file)
    assert list(found) == ["kdl_layers", "kdl_parts", "kdl_parts.names", "kdl_parts.scale", "kdl_parts.shift"]
    assert found["kdl_parts"] == tmp_path / "kdl_parts" / "__init__.py"


@pytest.mark.parametrize("name", ["random", "pytest"])
def test_the_name_of_an_installed_module_is_rejected(write, name):
    with pytest.raises(UserError, match=f"{name}.py, which pipeline.py imports, has the name of an installed module"):
        local_modules(write(pipeline=f"import {name}", **{name: ""}))
    assert local_modules(write(pipeline="")) == {}  # a file that is not imported may have any name


def test_modules_beside_a_pipeline_are_part_of_it(write):
    text = "from kdl_layers import Scale\nimport kdl_parts.scale\n" + FUNCTIONS
    file = write(
        pipeline=text, kdl_layers="class Scale: ...\nclass Shift: ...\n", **{"kdl_parts.scale": "def scaled(): ..."}
    )
    pipeline = load_pipeline(file)
    assert list(pipeline.files) == ["pipeline.py", "kdl_layers.py", "kdl_parts/scale.py"]
    assert pipeline.custom_objects.keys() >= {"Scale", "Shift", "scaled", "data", "build"}
    digest, digests = pipeline.digest, pipeline.digests
    write(kdl_layers="class Scale: 1\nclass Shift: ...\n")
    assert pipeline.digest != digest
    assert [name for name in digests if pipeline.digests[name] != digests[name]] == ["kdl_layers.py"]


def test_a_function_may_import_later_and_each_folder_has_its_own_modules(write, tmp_path):
    texts = {"pipeline": FUNCTIONS + "def answer(example):\n import kdl_late\n return kdl_late.NAME\n"}
    for name in ("first", "second", "first"):
        file = write(tmp_path / name, **texts, kdl_late=f"NAME = {name!r}")
        assert load_pipeline(file).answer(None) == name


@pytest.mark.parametrize("text, message", [("1 / 0", ":1: ZeroDivisionError"), ("x = (", ":1: SyntaxError")])
def test_an_error_in_a_module_names_its_line(write, text, message):
    file = write(pipeline="\nimport kdl_layers\n" + FUNCTIONS, kdl_layers=text)
    with pytest.raises(UserError, match=f"kdl_layers.py{message}"):
        load_pipeline(file)
