"""The modules next to a pipeline's file that it imports; they are part of the pipeline."""

import ast
import importlib.machinery
import sys
from pathlib import Path

from keras_dl.errors import UserError

_folders = []  # those that `make_importable` added to `sys.path`


def local_modules(file: Path) -> dict[str, Path]:
    """Returns `{name: file}` of the modules in the folder of a Python file that it imports, directly or indirectly.

    Imports within functions count too. The files are read and not executed.

    Raises:
        UserError: if a module cannot be read, or has the name of an installed one.
    """
    folder, found, pending = file.resolve().parent, {}, [("", file.resolve())]
    while pending:
        module, path = pending.pop()
        for name in sorted(_imported(path, module)):
            there = _file_of(folder, name)
            if there is not None and name not in found and there != file.resolve():
                found[name] = there
                pending.append((name, there))
    for name in {name.partition(".")[0] for name in found}:
        if name in sys.stdlib_module_names or _is_installed(name, folder):
            raise UserError(
                f"{found.get(name, folder / name)}, which {file.name} imports, has the name of an installed module: "
                "rename it"
            )
    return dict(sorted(found.items()))


def make_importable(file: Path, modules: dict[str, Path]) -> None:
    """Makes the modules from `local_modules` importable, including for functions that import them later.

    The folder becomes the last entry of `sys.path`, so that its files never replace other modules. Modules of the same
    names from another pipeline's folder are forgotten.
    """
    sys.path[:] = [entry for entry in sys.path if entry not in _folders]
    _folders[:] = [str(file.resolve().parent)]
    sys.path += _folders
    for name in modules:
        loaded = getattr(sys.modules.get(name), "__file__", None)
        if loaded and Path(loaded).resolve() != modules[name]:
            del sys.modules[name]


def _imported(path, module):
    """Yields the dotted names that a file may import, with those of the packages that contain them."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None) or 0
        raise UserError(f"{path}:{line}: {type(error).__name__}: {getattr(error, 'msg', error)}") from error
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join([*package[: len(package) - node.level + 1], *filter(None, [node.module])])
            base = base if node.level else node.module
            names = [base, *(f"{base}.{alias.name}" for alias in node.names)]
        for name in names:
            parts = name.split(".")
            yield from (".".join(parts[:count]) for count in range(1, len(parts) + 1))


def _file_of(folder, name):
    path = folder.joinpath(*name.split("."))
    candidates = (path / "__init__.py", path.with_name(f"{path.name}.py"))
    return next((each.resolve() for each in candidates if each.is_file()), None)


def _is_installed(name, folder):
    """Whether `sys.path` without the folders of pipelines has a module of this name."""
    elsewhere = [entry for entry in sys.path if entry not in _folders and Path(entry or ".").resolve() != folder]
    found = importlib.machinery.PathFinder.find_spec(name, elsewhere)
    return found is not None and found.origin is not None  # else a folder without modules, such as `data`
