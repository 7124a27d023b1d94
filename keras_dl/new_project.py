"""`keras-dl init`: starts a project folder, with a pipeline to start from. Does not import TensorFlow."""

import ast
from pathlib import Path

from keras_dl.errors import UserError
from keras_dl.tracking.settings import FILE, default_file

_PACKAGE = Path(__file__).parent
_STARTER = _PACKAGE / "starter" / "waves.py"
SAVED_MODELS_README = """\
Exported models, `<name>/<version>/`, in the layout of TensorFlow Serving. `keras-dl tune` and `keras-dl export` write
to this folder, and `keras-dl serve` reads it. A version never changes; delete its folder to stop serving it.
`keras-dl promote` and `rollback` rename a version to `.withdrawn-<version>` to stop serving it, and back to restore it.
"""


def pipeline_files() -> dict[str, Path]:
    """Returns `{name: file}` of the pipelines that come with keras_dl, `waves` first."""
    installed = _PACKAGE / "pipelines"
    folder = installed if installed.is_dir() else _PACKAGE.parent / "pipelines"  # in a checkout
    return {"waves": _STARTER, **{path.stem: path for path in sorted(folder.glob("*.py"))}}


def pipeline_table() -> str:
    """Returns the names of these pipelines, each with the first line of its docstring."""
    files = pipeline_files()
    width = max(map(len, files))
    return "\n".join(f"  {name:{width}}  {first_line(path)}" for name, path in files.items())


def first_line(path: Path) -> str:
    """Returns the first line of the docstring of a Python file, which is not executed."""
    try:
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    except (SyntaxError, UnicodeDecodeError) as error:
        return f"(cannot be read: {error})"
    return text.partition("\n")[0]


def start_project(folder: Path, pipeline: str = "waves") -> None:
    """Writes `mlflow.yaml`, `saved_models/` and a pipeline of `pipeline_files` to `pipelines/`; existing files are
    kept.
    """
    known = pipeline_files()
    if pipeline not in known:
        raise UserError(f"no pipeline {pipeline!r}. Available: {', '.join(known)}")
    file = f"pipelines/{pipeline}.py"
    files = {
        FILE: default_file(),
        file: known[pipeline].read_text(encoding="utf-8"),
        "saved_models/README.md": SAVED_MODELS_README,
    }
    for name, text in files.items():
        path = folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists():
                print(f"kept     {path}")
                continue
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise UserError(f"cannot write {path}: {error.strerror}") from error
        print(f"written  {path}")
    where = "" if folder.resolve() == Path.cwd() else f"cd {folder} && "
    print(f"\nnext: {where}keras-dl tune {file}")
