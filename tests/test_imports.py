"""Modules import only downward and without cycles, TensorFlow only where it is needed, and private parts of libraries
only in `keras_dl.compat`."""

import ast
import graphlib
import importlib
import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

import keras_dl

PACKAGE = Path(keras_dl.__file__).parent

# From the lowest to the highest; the parts of one row do not import each other.
ORDER = [
    {"errors"},
    {"startup", "durable", "arguments", "terminal", "directions"},
    {"compat", "console"},
    {"ops"},
    {"layers", "losses", "metrics", "data"},
    {"models"},
    {"migration"},
    {"options", "local_modules"},
    {"pipeline"},
    {"space"},
    {"tracking"},
    {"serving"},
    {"release"},
    {"training"},
    {"tuning"},
    {"new_project"},
    {"project"},
    {"cli"},
]
RANK = {name: rank for rank, names in enumerate(ORDER) for name in names}


def imported(tree, package):
    """Yields the dotted names that a module imports anywhere, each with its line.

    Args:
        tree: the module's `ast`.
        package: str, the package of the module, for relative imports.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            base = ".".join(parts[: len(parts) - node.level + 1]) if node.level else ""
            base = ".".join(part for part in (base, node.module) if part)
            # The name may be a module or an attribute of one.
            for alias in node.names:
                yield f"{base}.{alias.name}", node.lineno
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("importlib.import_module", "__import__"):
            if isinstance(node.args[0], ast.Constant):
                yield node.args[0].value, node.lineno


def violations(source, module):
    """Returns a sentence for each import of a module that goes upward or sideways."""
    package, name = module.rpartition(".")[0] if not module.endswith("__init__") else module[:-9], module.split(".")[1]
    found = []
    for target, line in imported(ast.parse(source), package):
        parts = target.split(".")
        if parts[0] == "pipelines":
            found.append(f"{module}:{line} imports {target}: pipelines must not be imported")
        if parts[0] != "keras_dl" or len(parts) == 1 or parts[1] in (name, "__version__"):
            continue
        # `keras_dl.Pipeline` is a lazy name of the package itself.
        other = "pipeline" if parts[1] == "Pipeline" else parts[1]
        if other not in RANK or RANK[other] >= RANK[name]:
            found.append(f"{module}:{line} imports {target}")
    return found


def modules():
    for path in sorted(PACKAGE.rglob("*.py")):
        module = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        if module != "keras_dl.__init__" and not module.startswith("keras_dl.starter."):
            yield path, module


def test_every_module_has_a_place_in_the_order():
    assert {module.split(".")[1] for _, module in modules()} == set(RANK)


def test_imports_go_only_downward():
    found = [sentence for path, module in modules() for sentence in violations(path.read_text("utf-8"), module)]
    assert not found, "\n".join(found)


def dependencies():
    """Returns `{module: modules that it imports}` over all modules of the package, without the lazy names."""
    files = {module.removesuffix(".__init__"): path for path, module in modules()}
    found = {}
    for module, path in files.items():
        package = module if path.name == "__init__.py" else module.rpartition(".")[0]
        targets = {target for target, _ in imported(ast.parse(path.read_text("utf-8")), package)}
        # An imported name is a module, or an attribute of the module before its last dot.
        targets = {target if target in files else target.rpartition(".")[0] for target in targets}
        found[module] = {target for target in targets if target in files and target != module}
    return found


def test_there_are_no_import_cycles():
    graph = dependencies()
    assert sum(map(len, graph.values())) > len(graph)
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError with the cycle


def test_a_cycle_is_found():
    graph = dependencies()
    graph["keras_dl.ops.ctc.inputs"] = {"keras_dl.ops.ctc.loss"}
    assert "keras_dl.ops.ctc.inputs" in graph["keras_dl.ops.ctc.loss"]
    with pytest.raises(graphlib.CycleError):
        graphlib.TopologicalSorter(graph).prepare()


PRIVATE = ("keras.src", "keras_tuner.src", "mlflow.utils", "mlflow.system_metrics", "mlflow.store",
           "mlflow.tracking.fluent",
           "tensorflow.python", "tensorflow_datasets.core")  # fmt: skip


def private_imports(source):
    """Returns the private modules of libraries that a module imports."""
    targets = (target for target, _ in imported(ast.parse(source), ""))
    return [target for target in targets for name in PRIVATE if f"{target}.".startswith(f"{name}.")]


def test_private_parts_of_libraries_are_used_only_in_compat():
    for path, module in modules():
        if module.split(".")[1] != "compat" and not module.startswith("keras_dl.tuning.distributed."):
            assert not private_imports(path.read_text("utf-8")), f"{module}: move this to keras_dl/compat/"
    assert private_imports((PACKAGE / "compat" / "keras.py").read_text("utf-8"))


@pytest.mark.parametrize("library", ["keras", "keras_tuner", "mlflow", "tensorflow", "tensorflow_datasets"])
def test_compat_was_tested_with_the_installed_versions(library):
    tree = ast.parse((PACKAGE / "compat" / f"{library}.py").read_text("utf-8"))
    values = {node.targets[0].id: node.value for node in tree.body if isinstance(node, ast.Assign)
              and isinstance(node.targets[0], ast.Name)}  # fmt: skip
    tested, version = ast.literal_eval(values["TESTED"]), importlib.metadata.version(library)
    assert version in SpecifierSet(tested), (
        f"{library} {version} is installed, and keras_dl/compat/{library}.py was tested with {tested}: run the tests, "
        "adapt the module and widen its range"
    )


def test_the_package_itself_imports_only_what_registers_its_classes():
    tree = ast.parse((PACKAGE / "__init__.py").read_text("utf-8"))
    top = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    register = "from keras_dl.compat.registration import register_on_demand"
    assert [ast.unparse(node) for node in top] == ["import importlib", register]


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("keras_dl.ops.ctc", "from keras_dl.layers import CTCOutput"),
        ("keras_dl.ops.ctc", "import keras_dl.layers.ctc_output"),
        ("keras_dl.ops.ctc", "from keras_dl import layers"),
        ("keras_dl.ops.ctc", "from .. import layers"),
        ("keras_dl.ops.ctc", "from ..layers.ctc_output import CTCOutput"),
        ("keras_dl.ops.__init__", "from ..layers import CTCOutput"),
        ("keras_dl.losses", "from . import models"),
        ("keras_dl.losses", "from .models import recogniser"),
        ("keras_dl.data.sources", "from keras_dl.layers import CTCOutput"),  # beside
        ("keras_dl.layers.ctc_output", "from keras_dl.data import load"),  # beside
        ("keras_dl.data.builders.digit_strings", "from ... import Pipeline"),
        ("keras_dl.models.recogniser", "from keras_dl import Pipeline"),
        ("keras_dl.tracking.runs", "def f():\n    from keras_dl.training import train"),
        ("keras_dl.tracking.runs", "def f():\n    import importlib\n    importlib.import_module('keras_dl.cli')"),
        ("keras_dl.errors", "if False:\n    import keras_dl.ops"),
        ("keras_dl.cli", "from keras_dl.no_such_place import x"),
        ("keras_dl.cli", "import pipelines.digits_ctc"),
        ("keras_dl.cli", "from pipelines import digits_ctc"),
    ],
)
def test_a_forbidden_import_is_found(module, source):
    assert len(violations(source, module)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("keras_dl.layers.ctc_output", "from keras_dl.ops.ctc import certain_blank"),
        ("keras_dl.layers.ctc_output", "from ..ops.ctc import certain_blank"),
        ("keras_dl.layers.__init__", "from .ctc_output import CTCOutput"),
        ("keras_dl.data.sources", "from keras_dl.data import builders"),
        ("keras_dl.cli", "from keras_dl import __version__, Pipeline"),
        ("keras_dl.cli", "import keras_dl, keras, numpy"),
    ],
)
def test_an_allowed_import_is_accepted(module, source):
    assert violations(source, module) == []


def test_pipelines_are_not_imported():
    root = Path(__file__).parents[1]
    files = [
        path for folder in ("keras_dl", "pipelines", "tests", "benchmarks") for path in (root / folder).rglob("*.py")
    ]
    names = {path.stem for path in (root / "pipelines").glob("*.py")}
    assert names
    for path in files:
        for target, line in imported(ast.parse(path.read_text("utf-8")), "tests"):
            first, *rest = target.split(".")
            assert first != "pipelines", f"{path}:{line}"
            assert first not in names, f"{path}:{line}"


def run_python(*arguments):
    return subprocess.run([sys.executable, *arguments], env=os.environ, capture_output=True, text=True)


def heavy_imports(answer):
    """Returns the large packages in the output of `-X importtime`."""
    names = {line.rpartition("|")[2].strip() for line in answer.stderr.splitlines() if line.startswith("import time:")}
    assert len(names) > 20  # the measurement worked
    return names & {"tensorflow", "keras", "keras_tuner", "tensorflow_datasets", "mlflow", "matplotlib", "sklearn"}


def test_importing_the_package_imports_no_tensorflow():
    answer = run_python("-X", "importtime", "-c", "import keras_dl; dir(keras_dl)")
    assert answer.returncode == 0
    assert not heavy_imports(answer)
    assert "keras_dl" in answer.stderr


def test_the_names_of_the_package_are_imported_on_demand():
    assert keras_dl.Pipeline is sys.modules["keras_dl.pipeline"].Pipeline
    for name in ("data", "layers", "losses", "metrics", "migration", "models", "ops"):
        assert name in dir(keras_dl)
        assert getattr(keras_dl, name).__name__ == f"keras_dl.{name}"
    with pytest.raises(AttributeError, match="module 'keras_dl' has no attribute 'nothing'"):
        _ = keras_dl.nothing


def tensor_updates(source):
    """Yields the lines of a module for all backends on which an augmented assignment may change a tensor in place."""
    tree = ast.parse(source)
    top = {name for node in tree.body if isinstance(node, ast.Import) for name, _ in imported(node, "")}
    if "tensorflow" in top or "keras.ops" not in {name for name, _ in imported(tree, "")}:
        return
    literals = ast.Constant, ast.List, ast.Dict, ast.ListComp, ast.DictComp
    for node in ast.walk(tree):
        if isinstance(node, ast.AugAssign) and not isinstance(node.value, literals):
            yield node.lineno


def test_no_tensor_is_changed_in_place():
    """On torch, `x += y` writes into the tensor of the caller, and into values that gradients need."""
    found = [
        f"{path.relative_to(PACKAGE)}:{line}"
        for part in ("ops", "layers", "losses", "metrics", "models")
        for path in (PACKAGE / part).rglob("*.py")
        for line in tensor_updates(path.read_text(encoding="utf-8"))
    ]
    assert not found
    assert list(tensor_updates("from keras import ops\ndef f(x, y):\n    x += y\n    x += 1")) == [3]


def test_every_public_package_lists_its_names():
    for part in ("layers", "losses", "metrics", "models", "models.seq2seq", "data", "ops", "ops.ctc", "ops.attention",
                 "ops.decoding", "ops.ngram", "layers.attention"):  # fmt: skip
        module = importlib.import_module(f"keras_dl.{part}")
        assert module.__all__ == sorted(set(module.__all__)) and set(module.__all__) <= set(dir(module))
    assert set(keras_dl.__all__) <= set(dir(keras_dl))
