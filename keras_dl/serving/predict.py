"""`keras-dl predict`: one request to a server, or to the exported model itself, and its answer in the terminal."""

import json
import logging
import textwrap
from pathlib import Path

import numpy as np

from keras_dl.errors import UserError, reason_of
from keras_dl.serving.client import Client
from keras_dl.serving.client.values import output_array
from keras_dl.serving.recording import read_recording, table
from keras_dl.serving.versions import exported_versions
from keras_dl.startup import import_tensorflow
from keras_dl.tracking.settings import Settings

DEFAULT_URL = "http://127.0.0.1:8501"
INK = " .:-=+*#%@"


def show_prediction(
    name: str,
    settings: Settings,
    image: str | None = None,
    example: int | None = None,
    given: str | None = None,
    url: str | None = None,
    audio: str | None = None,
) -> dict:
    """Prints what a model answers to a picture, a recording, a test example or JSON inputs; returns the outputs.

    Asks the server at `url`; without one, that at http://127.0.0.1:8501 if it serves the model, else the newest version
    in `saved_models/` is loaded in this process.

    Args:
        name: the model.
        settings: for `saved_models/` and `pipelines/`.
        image: path of a picture, sent as the input `image` `[1, height, width]`, 0 = background.
        example: index into the test split of `pipelines/<name>.py`.
        given: the inputs as JSON.
        url: of a server, http://HOST:PORT or grpc://HOST:PORT.
        audio: path of a WAV file, or "-" for standard input, sent as `waveform` and `length`; see `read_recording`.

    Raises:
        UserError: for a model, file, example or JSON that is not there or not right, or the server's own error.
    """
    versions = exported_versions(settings.saved_models, name) if name.isidentifier() else []
    if url is None and is_served(name):
        url = DEFAULT_URL
    if url is None and not versions:
        raise UserError(
            f"no model {name!r} in {settings.saved_models}: make it with keras-dl tune pipelines/{name}.py, "
            f"or, if it is registered, with keras-dl export pipelines/{name}.py"
        )

    right = None
    if image is not None:
        inputs = {"image": read_image(Path(image))}
    elif audio is not None:
        inputs = read_recording(audio)
    elif given is not None:
        inputs = _parse(given)
    else:
        inputs, right = _example(name, settings, example, versions)
    if url is not None:
        with Client(url) as client:
            outputs, where = client.predict(name, inputs), f"the server at {url}"
    else:
        outputs, where = _ask_folder(settings.saved_models / name / str(versions[0]), inputs), f"version {versions[0]}"

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
    if right is not None:
        print(f"  right is: {right}")
    return outputs


def is_served(name: str) -> bool:
    """Whether a server at http://127.0.0.1:8501 has a version of the model."""
    with Client(DEFAULT_URL) as client:
        return client.is_available(name)


def read_image(path: Path) -> np.ndarray:
    """A picture as float32 `[1, height, width]` from 0 (background) to 255, cut to the rows that hold ink.

    A light background is inverted.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as picture:
            pixels = np.asarray(picture.convert("L"), np.float32)
    except FileNotFoundError:
        raise UserError(f"no picture {path}") from None
    except (UnidentifiedImageError, OSError) as error:
        raise UserError(f"{path} is no picture that can be read: {error}") from error
    pixels = 255 - pixels if np.median(pixels) > 127 else pixels
    # Models read lines that fill their height: what is above and below the ink goes, but for a margin of an eighth.
    inked = np.flatnonzero((pixels > 0.3 * pixels.max()).any(axis=1))
    if len(inked):
        top, bottom = inked[0], inked[-1] + 1
        margin = -(-(bottom - top) // 8)
        pixels = np.pad(pixels, ((margin, margin), (0, 0)))[top : bottom + 2 * margin]
    return pixels[None]


def ascii_image(pixels: np.ndarray, columns: int = 100) -> str:
    """A picture in characters, the darker the more ink: `[height, width]`, at most `columns` wide.

    Example:

    >>> print(ascii_image(np.array([[0, 9, 0], [9, 9, 9]])))
     @
    @@@
    """
    step = -(-pixels.shape[1] // columns)
    pixels = np.asarray(pixels, np.float64)[::step, ::step]
    levels = np.round(pixels / max(pixels.max(), 1e-9) * (len(INK) - 1)).astype(int).clip(0, len(INK) - 1)
    return "\n".join("".join(INK[level] for level in row).rstrip() for row in levels)


def _parse(given):
    try:
        inputs = json.loads(given)
    except ValueError as error:
        raise UserError(f"--input is no JSON ({error}). Received: {given}") from error
    if not isinstance(inputs, dict):
        raise UserError(f'--input must be an object of inputs, such as {{"prompt": ["def "]}}. Received: {given}')
    return inputs


def _example(name, settings, index, versions):
    """The request of a test example, and its right answer if the pipeline tells it."""
    import_tensorflow()
    import keras_tuner as kt

    from keras_dl.pipeline import load_pipeline
    from keras_dl.release import registry
    from keras_dl.tracking.runs import connect

    pipeline = load_pipeline(settings.root / "pipelines" / f"{name}.py")
    hp = kt.HyperParameters()
    connect(settings)
    version = registry.find_version(name, versions[0]) if versions else None
    if version is not None:  # the same data that the model was tested on
        values, pipeline.source = registry.origin(version)
        hp.values.update(values)
    test = pipeline.data(hp).test.unbatch()
    if index < 0:
        raise UserError(f"--example counts from 0. Received: {index}")
    found = next(iter(test.skip(index).take(1).as_numpy_iterator()), None)
    if found is None:
        raise UserError(f"the test split of {name} has {sum(1 for _ in test)} examples. Received: --example {index}")
    return pipeline.request(found), pipeline.answer(found)


def _ask_folder(folder, inputs):
    import_tensorflow()
    import tensorflow as tf

    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    signature = tf.saved_model.load(str(folder)).signatures["serving_default"]
    wanted = signature.structured_input_signature[1]
    if "" in inputs and len(wanted) == 1:
        inputs = {next(iter(wanted)): inputs[""]}
    if set(inputs) != set(wanted):
        raise UserError(f"the model takes {', '.join(sorted(wanted))}. Received: {', '.join(sorted(inputs))}")
    try:
        tensors = {key: tf.cast(value, wanted[key].dtype) for key, value in inputs.items()}
        outputs = {key: value.numpy() for key, value in signature(**tensors).items()}
    except (tf.errors.OpError, TypeError, ValueError) as error:
        raise UserError(f"the model refuses these inputs: {reason_of(error)}") from error
    objects = {key: np.array(value, object) if isinstance(value, bytes) else value for key, value in outputs.items()}
    return {key: output_array(key, np.asarray(value)) for key, value in objects.items()}


def _readable(value):
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return str(value)
