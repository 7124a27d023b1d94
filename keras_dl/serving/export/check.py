"""Checks of a SavedModel on disk: problems that serving it would reveal, with their fixes."""

from pathlib import Path

from keras_dl.errors import UserError
from keras_dl.serving.export.clean import ModelFailed, clean_process, start_clean_process
from keras_dl.serving.export.manifest import from_json, read_manifest
from keras_dl.serving.export.measured import Measured, check_answers, measure_signatures
from keras_dl.serving.export.padding import Batching
from keras_dl.serving.export.rows import Arrays
from keras_dl.serving.export.traps import Trap, find_traps, read_graph


def check(folder: Path, expected: list[tuple[Arrays, Arrays]] | None = None) -> bool:
    """Prints the traps of a SavedModel with their fixes, and what was measured; returns whether it can be served.

    An unsafe model, which reaches outside its graph, is read but never run. Any other model is loaded in a process
    without keras_dl and run on the example request of its manifest (or the first of `expected`), on rows of different
    lengths and on an empty batch. It can be served if no trap is worse than a warning.

    Args:
        folder: folder of a version, with `saved_model.pb`; not necessarily written by keras-dl.
        expected: requests with the answers of the Keras model, to compare with. None (default): no comparison.
    """
    traps = find_traps(folder)
    if all(trap.level != "unsafe" for trap in traps):
        start_clean_process()
    for trap in traps:
        print(trap)
    if any(trap.level == "unsafe" for trap in traps):
        print("not run because it is unsafe")
        return False
    found = _run(folder, expected)
    for trap in found:
        print(trap)
    return all(trap.level == "warning" for trap in traps + found)


def _run(folder: Path, expected) -> list[Trap]:
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
            print("gives the same answers as the Keras model: " + ", ".join(_shapes(inputs) for inputs, _ in expected))
        request = _example(manifest) or (expected[0][0] if expected else {})
        if not request:
            print("skipped: there is no example request")
            return []
        measured = measure_signatures(process, graph.signature_def, request)
        ended = not process.is_running()
    found = [trap for name, each in sorted(measured.items()) for trap in _report(name, each, manifest)]
    if ended:
        found.append(Trap("error", "the SavedModel", "a request crashed the process, and would crash a server",
                          "see the request above and the operations of the graph"))  # fmt: skip
    return found


def _example(manifest) -> Arrays:
    """Returns the example request of the manifest, or {} if there is none that can be read."""
    try:
        inputs = manifest["signatures"]["serving_default"]["inputs"]
        request = {name: from_json(value, inputs[name]["dtype"]) for name, value in manifest["request"].items()}
        return {} if any(array.shape[:1] == (0,) for array in request.values()) else request
    except (KeyError, TypeError, ValueError, AttributeError):
        return {}


def _report(name, measured: Measured, manifest):
    """Prints what was measured of a signature and yields its traps."""
    where = f"signature {name!r}"
    if not measured.answered:
        if name == "serving_default":
            yield Trap("error", where, measured.batching.why, "export it again with an example that it can answer")
        return  # nothing was measured
    print(f"{where} answers {', '.join(_shapes(inputs) for inputs in measured.answered)}")
    print(f"{where}: {_describe(measured.batching)}")
    for refused in measured.refused:
        yield Trap("warning", where, f"it does not answer {refused}", "clients must not send such requests")
    if note := measured.note():
        yield Trap("warning", where, note, "change the model, or accept that each request runs alone")
    recorded, now = _recorded(manifest, name), measured.batching
    known = ("rows_independent", "padded_axes", "cropped_axes")
    if recorded and (
        not isinstance(recorded, dict) or any(recorded.get(each) != getattr(now, each) for each in known)
    ):  # fmt: skip
        yield Trap("error", where, f"the batching in its manifest does not match the measurement: {recorded}",
                   "export it again")  # fmt: skip


def _recorded(manifest, name):
    """Returns the batching of a signature in a manifest, which may be malformed."""
    try:
        return manifest["signatures"][name]["batching"]
    except (KeyError, TypeError):
        return {}


def _describe(batching: Batching) -> str:
    if not batching.rows_independent:
        return "the answer for a row depends on the other rows"
    axes = [f"axis {axis} of {name}" for name, several in batching.padded_axes.items() for axis in several]
    padded = f"trailing zeros on {', '.join(axes)} change nothing" if axes else "padding is not known to be safe"
    return f"the answer for a row does not depend on other rows; {padded}"


def _shapes(inputs):
    return " ".join(f"{name} {list(array.shape)}" for name, array in inputs.items())
