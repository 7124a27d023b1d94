"""A SavedModel on the disk, looked at and tried: what will surprise whoever serves it, and what to do about it."""

from pathlib import Path

from keras_dl.errors import UserError
from keras_dl.serving.export.clean import ModelFailed, clean_process, start_clean_process
from keras_dl.serving.export.manifest import from_json, read_manifest
from keras_dl.serving.export.measured import Measured, check_answers, measure_signatures
from keras_dl.serving.export.padding import Batching
from keras_dl.serving.export.rows import Arrays
from keras_dl.serving.export.traps import Trap, find_traps, read_graph


def check(folder: Path, expected: list[tuple[Arrays, Arrays]] | None = None) -> bool:
    """Prints the traps of a SavedModel with their fixes, and what was measured.

    One that reaches out of its graph is read, and never run. Any other is loaded in a process without keras_dl and
    answers the example request of its manifest, in rows of different lengths and without rows; where that has none, the
    first of `expected`.

    Args:
        folder: of a version, with `saved_model.pb`; of keras-dl or anybody's.
        expected: requests and what the Keras model answers, to compare with. None (default): there is no such model.

    Returns:
        Whether it can be served: nothing is worse than a warning.

    Raises:
        UserError: if there is no SavedModel, or one that cannot be read.
    """
    traps = find_traps(folder)
    if all(trap.level != "unsafe" for trap in traps):
        start_clean_process()
    for trap in traps:
        print(trap)
    if any(trap.level == "unsafe" for trap in traps):
        print("not run, because it is unsafe")
        return False
    tried = _try(folder, expected)
    for trap in tried:
        print(trap)
    return all(trap.level == "warning" for trap in traps + tried)


def _try(folder: Path, expected) -> list[Trap]:
    graph, manifest = read_graph(folder), read_manifest(folder)
    with clean_process() as process:
        try:
            process.load(folder)
        except ModelFailed as error:
            return [Trap("error", "the SavedModel", f"it cannot be loaded: {error}", "export it again")]
        print("loads in a process without keras_dl")
        if expected is not None:
            try:
                check_answers(process, expected)
            except UserError as error:
                return [Trap("error", "signature 'serving_default'", " ".join(str(error).split()), "export it again")]
            print("answers as the Keras model does: " + ", ".join(_shapes(inputs) for inputs, _ in expected))
        request = _example(manifest) or (expected[0][0] if expected else {})
        if not request:
            print("not asked anything: it has no example request")
            return []
        measured = measure_signatures(process, graph.signature_def, request)
        ended = not process.is_running()
    found = [trap for name, each in sorted(measured.items()) for trap in _judged(name, each, manifest)]
    if ended:
        found.append(Trap("error", "the SavedModel", "a request to it ended the process that ran it, as it would end a "
                          "server", "see the request above, and what the graph does with it"))  # fmt: skip
    return found


def _example(manifest) -> Arrays:
    """The manifest's example request, if it has one that can be read."""
    try:
        inputs = manifest["signatures"]["serving_default"]["inputs"]
        request = {name: from_json(value, inputs[name]["dtype"]) for name, value in manifest["request"].items()}
        return {} if any(array.shape[:1] == (0,) for array in request.values()) else request
    except (KeyError, TypeError, ValueError, AttributeError):
        return {}


def _judged(name, measured: Measured, manifest):
    where = f"signature {name!r}"
    if not measured.answered:
        if name == "serving_default":
            yield Trap("error", where, measured.batching.why, "export it again, with an example that it answers")
        return  # nothing is known of what it takes
    print(f"{where} answers {', '.join(_shapes(inputs) for inputs in measured.answered)}")
    print(f"{where}: {_said(measured.batching)}")
    for refused in measured.refused:
        yield Trap("warning", where, f"it does not answer {refused}", "a client must not send that")
    if note := measured.note():
        yield Trap("warning", where, note, "see what it says; served as it is, each request runs by itself")
    recorded, now = _recorded(manifest, name), measured.batching
    known = ("rows_independent", "padded_axes", "cropped_axes")
    if recorded and (
        not isinstance(recorded, dict) or any(recorded.get(each) != getattr(now, each) for each in known)
    ):  # fmt: skip
        yield Trap("error", where, f"its manifest says otherwise of running requests together: {recorded}",
                   "export it again")  # fmt: skip


def _recorded(manifest, name):
    """What a manifest, that anybody may have written, says of running requests together."""
    try:
        return manifest["signatures"][name]["batching"]
    except (KeyError, TypeError):
        return {}


def _said(batching: Batching) -> str:
    if not batching.rows_independent:
        return "a row's answer depends on the other rows"
    axes = [f"axis {axis} of {name}" for name, several in batching.padded_axes.items() for axis in several]
    padded = f"zeros behind {', '.join(axes)} change nothing" if axes else "padding is not known to be safe"
    return f"a row's answer depends on that row alone; {padded}"


def _shapes(inputs):
    return " ".join(f"{name} {list(array.shape)}" for name, array in inputs.items())
