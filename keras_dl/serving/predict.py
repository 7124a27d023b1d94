"""`keras-dl predict`: sends a request to a server or to an exported model, and prints the answer."""

import json
import logging
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import numpy as np

from keras_dl.errors import UserError, reason_of
from keras_dl.serving.client import Client
from keras_dl.serving.client.values import Signature, input_arrays, output_array
from keras_dl.serving.versions import exported_versions
from keras_dl.startup import import_tensorflow
from keras_dl.tracking.settings import Settings

DEFAULT_URL = "http://127.0.0.1:8501"
INK = " .:-=+*#%@"
_SAMPLE_RATE = 8000
_SHORTEST_SECONDS = 0.1


def show_prediction(
    name: str,
    settings: Settings,
    image: str | None = None,
    example: Callable[[], tuple[dict, str | None]] | None = None,
    given: str | None = None,
    url: str | None = None,
    audio: str | None = None,
) -> dict:
    """Prints a model's answer to an image, a recording, a test example or JSON inputs, and returns the outputs.

    The request is sent to the server at `url`, http://HOST:PORT or grpc://HOST:PORT. Without a URL, it is sent to
    http://127.0.0.1:8501 if a server there has the model; otherwise the newest version in `saved_models/` is loaded in
    this process.

    Args:
        name, settings: model name, and the settings of the project.
        image: path of an image, sent as the input `image` `[1, height, width]`, 0 = background.
        example: function that returns a request and its expected answer or None (see `release.evaluate.example_of`).
        given: the inputs as JSON.
        audio: path of a WAV file, or "-" for standard input, sent as `waveform` and `length`; see `read_recording`.
    """
    versions = exported_versions(settings.saved_models, name) if name.isidentifier() else []
    if url is None and is_served(name):
        url = DEFAULT_URL
    if url is None and not versions:
        raise UserError(
            f"no model {name!r} in {settings.saved_models}: train it with keras-dl tune pipelines/{name}.py, "
            f"or export a registered version with keras-dl export pipelines/{name}.py"
        )

    expected = None
    if image is not None:
        inputs = {"image": read_image(Path(image))}
    elif audio is not None:
        inputs = read_recording(audio)
    elif given is not None:
        inputs = _parse(given)
    else:
        inputs, expected = example()
    if url is not None:
        with Client(url) as client:
            outputs, where = client.predict(name, inputs), f"the server at {url}"
    else:
        version, folder = versions[0], settings.saved_models / name / str(versions[0])
        outputs, where = _run_export(name, version, folder, inputs, given is not None), f"version {version}"

    if "image" in inputs:
        print(ascii_image(np.asarray(inputs["image"])[0]))
    print(f"{name}, {where}:")
    values = {key: outputs[key] for key in sorted(outputs)}
    columns = {key: value[0] for key, value in values.items() if value.ndim == 2 and len(value) == 1}
    columns = columns if audio is not None and len({len(column) for column in columns.values()}) == 1 else {}
    for key, value in values.items():
        if key not in columns:
            print(f"  {key}: {_readable(value[0] if value.ndim and len(value) == 1 else value)}")
    if columns:
        print(textwrap.indent(table(columns), "  "))
    if expected is not None:
        print(f"  expected: {expected}")
    return outputs


def is_served(name: str) -> bool:
    """Returns True if a server at http://127.0.0.1:8501 serves the model."""
    with Client(DEFAULT_URL) as client:
        return client.is_available(name)


def read_image(path: Path) -> np.ndarray:
    """Reads an image as float32 `[1, height, width]` from 0 (background) to 255, cropped to the rows with ink.

    Images with a light background are inverted.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as picture:
            pixels = np.asarray(picture.convert("L"), np.float32)
    except FileNotFoundError:
        raise UserError(f"no such image: {path}") from None
    except (UnidentifiedImageError, OSError) as error:
        raise UserError(f"{path} is not a readable image: {error}") from error
    pixels = 255 - pixels if np.median(pixels) > 127 else pixels
    # Models expect lines that fill the height: keep the rows with ink and a margin of an eighth.
    inked = np.flatnonzero((pixels > 0.3 * pixels.max()).any(axis=1))
    if len(inked):
        top, bottom = inked[0], inked[-1] + 1
        margin = -(-(bottom - top) // 8)
        pixels = np.pad(pixels, ((margin, margin), (0, 0)))[top : bottom + 2 * margin]
    return pixels[None]


def read_recording(path: str) -> dict:
    """Reads a WAV file as the inputs `waveform`, float32 `[1, samples]` from -1 to 1 at 8000 Hz, and `length` `[1]`.

    Recordings with other sample rates are resampled, and several channels are averaged, with a message on standard
    error. The path `"-"` is standard input. UserError is raised for a file that cannot be read or is shorter than 0.1
    seconds.
    """
    import_tensorflow()
    from keras_dl.data.audio import decode_wav, fit_audio

    name = "standard input" if path == "-" else path
    try:
        content = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"cannot read the recording {name}: {error.strerror or error}") from None
    samples, rate = decode_wav(content, name)
    if len(samples) < _SHORTEST_SECONDS * rate:
        raise UserError(
            f"{name} is too short: expected at least {_SHORTEST_SECONDS} seconds. Received: {len(samples) / rate:.4f}"
        )
    changes = [f"{rate} Hz, resampled to {_SAMPLE_RATE} Hz"] * (rate != _SAMPLE_RATE)
    changes += [f"{samples.shape[1]} channels, mixed down to one"] * (samples.shape[1] > 1)
    if changes:
        print(f"{name} has {'; '.join(changes)}", file=sys.stderr)
    waveform = fit_audio(samples, rate, _SAMPLE_RATE)[None]
    return {"waveform": waveform, "length": np.array([waveform.shape[1]], np.int32)}


def ascii_image(pixels: np.ndarray, columns: int = 100) -> str:
    """Draws an image `[height, width]` with characters, darker for more ink, at most `columns` wide.

    Example:

    >>> print(ascii_image(np.array([[0, 9, 0], [9, 9, 9]])))
     @
    @@@
    """
    step = -(-pixels.shape[1] // columns)
    pixels = np.asarray(pixels, np.float64)[::step, ::step]
    levels = np.round(pixels / max(pixels.max(), 1e-9) * (len(INK) - 1)).astype(int).clip(0, len(INK) - 1)
    return "\n".join("".join(INK[level] for level in row).rstrip() for row in levels)


def table(columns: dict) -> str:
    """Formats outputs `{name: array [N]}` as the columns of a table, with one line per item.

    Strings come first, then `start` and `end` in seconds, then the others; `confidence` is in percent.

    Example:

    >>> print(table({"confidence": np.array([1, 0.5]), "digit": np.array(["7", "0"]), "start": np.array([0.1, 0.5])}))
    digit     start  confidence
    7        0.10 s        100%
    0        0.50 s         50%
    """
    order = {"start": 1, "end": 2}
    strings = {name for name, values in columns.items() if values.dtype.kind in "OSU"}
    aligned = []
    for name in sorted(columns, key=lambda name: (0 if name in strings else order.get(name, 3), name)):
        cells = [name, *(_cell(name, value) for value in columns[name].tolist())]
        width = max(map(len, cells))
        aligned.append([cell.ljust(width) if name in strings else cell.rjust(max(width, 8)) for cell in cells])
    return "\n".join("  ".join(row).rstrip() for row in zip(*aligned, strict=True))


def _parse(given):
    try:
        inputs = json.loads(given)
    except (ValueError, RecursionError) as error:
        raise UserError(f"--input is not valid JSON ({error}). Received: {given[:200]}") from error
    return inputs if isinstance(inputs, dict) else {"": inputs}  # the only input


def _run_export(name, version, folder, inputs, as_json):
    """Runs an export as the server would, with the same checks."""
    import_tensorflow()
    import tensorflow as tf

    from keras_dl.serving.server.engine import LoadedModel
    from keras_dl.serving.server.inputs import check_inputs
    from keras_dl.serving.server.rest.codec import Document, decode_predict

    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    try:
        model = LoadedModel(name, version, folder)
    except tf.errors.PermissionDeniedError as error:
        raise UserError(f"{name}, version {version} is unsafe, and is not run: {error.message}") from None
    except Exception as error:  # broken files can raise any error
        raise UserError(f"{name}, version {version} cannot be loaded: {reason_of(error)}") from error
    try:
        if as_json:
            value = inputs[""] if set(inputs) == {""} else inputs
            arrays = decode_predict(Document({"inputs": value}), model.inputs).inputs
        else:
            expected = model.inputs.get("serving_default", {})
            known = Signature({key: (each.dtype.name, each.shape) for key, each in expected.items()}, {})
            arrays = input_arrays(name, inputs, known)
            if arrays.keys() != expected.keys():
                received = ", ".join(sorted(arrays))
                raise UserError(f"{name}: expected the inputs {', '.join(sorted(expected))}. Received: {received}")
        check_inputs(model.inputs["serving_default"], arrays)
        outputs = model.predict("serving_default", arrays)
    except tf.errors.OpError as error:
        raise UserError(f"{name}: {reason_of(error)}") from error
    return {key: output_array(key, value) for key, value in outputs.items()}


def _readable(value):
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return str(value)


def _cell(name, value):
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if name in ("start", "end"):
        return f"{value:.2f} s"
    if name == "confidence":
        return f"{100 * value:.0f}%"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
