"""Why something failed, in one line: what TensorFlow says without the names of its nodes."""

import re


def reason_of(error: Exception) -> str:
    """The one line of an error's text that says why, or the kind of error if it has no text."""
    text = str(getattr(error, "strerror", None) or getattr(error, "message", None) or error)
    lines = [line.strip() for line in text.splitlines() if not line.startswith("Graph execution error")]
    line = next((line for line in lines if line), type(error).__name__)
    if "{{" in line:  # {{function_node ...}} FILE; File too large [Op:SaveV2]
        line = re.sub(r"\s*\[Op:\w+\].*", "", line.rpartition(";")[2].rpartition("}}")[2]).strip() or line
    return line
