"""The exception that the command line turns into a one-line message, and one-line descriptions of any error."""

import re
import sys
import traceback
from pathlib import Path

PIPELINE = "keras_dl_pipeline_"  # the first part of the name of a pipeline's module
# Lines that TensorFlow puts before or after the cause.
_NOISE = re.compile(r'Graph execution error|Detected at |File "|<stack traces unavailable>|\[\[\{\{node')
_TRANSFORMATION = re.compile(r"Error in user-defined function passed to .*? with iterator: Iterator::\S+: ")


class UserError(ValueError):
    """The caller's input is wrong; the message says what was expected and what was received.

    The command line prints only the message and exits with code 2. For any other exception that a pipeline's file
    caused, it prints `line_of` and `one_line`. All others are bugs in this project and keep their traceback.
    """


def reason_of(error: BaseException) -> str:
    """Returns the line of an error's text that names the cause, or the error's class name if it has no text.

    The node names and stacks that TensorFlow adds to its messages are removed.

    Example:

    >>> reason_of(ValueError("the shape is wrong\\ndetails"))
    'the shape is wrong'
    """
    text = str(getattr(error, "strerror", None) or getattr(error, "message", None) or error)
    lines = [line.strip() for line in text.splitlines() if line.strip() and not _NOISE.match(line.strip())]
    line = next(iter(lines), type(error).__name__)
    if line.startswith("in user code:"):  # by AutoGraph, followed by a stack
        line = lines[-1]
    if line.startswith("{{"):  # {{function_node ...}} FILE; File too large [Op:SaveV2]
        line = re.sub(r"\s*\[Op:\w+\].*", "", line.rpartition(";")[2].rpartition("}}")[2]).strip() or line
    return _TRANSFORMATION.sub("", re.sub(r" for '{{node .*?}} = .*?'", "", line))


def one_line(error: BaseException) -> str:
    """Returns the class and the reason of an error, of at most 500 characters.

    >>> one_line(FileNotFoundError(2, "No such file or directory", "a.csv"))
    'FileNotFoundError: No such file or directory: a.csv'
    """
    reason = reason_of(error)
    if isinstance(error, OSError) and error.filename is not None:
        reason += f": {error.filename}"
    named = re.match(r"[\w.]*(Error|Exception)\b", reason)
    return (reason if named else f"{type(error).__name__}: {reason}")[:500]


def line_of(error: BaseException) -> str | None:
    """Returns `FILE:LINE` of the innermost line of a pipeline's file that caused an error; None if there is none.

    Lines of functions that TensorFlow has converted are only in the text of the error.
    """
    files = {module.__file__ for name, module in list(sys.modules.items()) if name.startswith(PIPELINE)}
    frames = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    frames += re.findall(r'File "([^"]+)", line (\d+)', str(error))
    places = [f"{shown_path(file)}:{line}" for file, line in frames if file in files]
    return places[-1] if places else None


def shown_path(path: str | Path) -> Path:
    """Returns a path relative to the current folder if it is in it."""
    path = Path(path)
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
