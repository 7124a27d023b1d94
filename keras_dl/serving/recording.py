"""A sound file as a request, and what was heard in it as a table."""

import sys
from pathlib import Path

import numpy as np

from keras_dl.errors import UserError
from keras_dl.startup import import_tensorflow

SAMPLE_RATE = 8000
SHORTEST = 0.1


def read_recording(path: str) -> dict:
    """A WAV file as the inputs `waveform` float32 `[1, samples]` from -1 to 1, 8000 a second, and `length` `[1]`.

    Another rate is changed and several channels are averaged, which is said on standard error.

    Args:
        path: of the file, or `"-"` for standard input.

    Raises:
        UserError: for a file that is not there, cannot be read, is empty or lasts less than 0.1 seconds.
    """
    import_tensorflow()
    from keras_dl.data.audio import decode_wav, fit_audio

    name = "standard input" if path == "-" else path
    try:
        content = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"cannot read the recording {name}: {error.strerror or error}") from None
    samples, rate = decode_wav(content, name)
    if len(samples) < SHORTEST * rate:
        raise UserError(f"{name} is too short: expected at least {SHORTEST} seconds. It has {len(samples) / rate:.4f}")
    changes = [f"{rate} Hz, resampled to {SAMPLE_RATE} Hz"] * (rate != SAMPLE_RATE)
    changes += [f"{samples.shape[1]} channels, mixed to one"] * (samples.shape[1] > 1)
    if changes:
        print(f"{name} has {'; '.join(changes)}", file=sys.stderr)
    waveform = fit_audio(samples, rate, SAMPLE_RATE)[None]
    return {"waveform": waveform, "length": np.array([waveform.shape[1]], np.int32)}


def table(columns: dict) -> str:
    """Outputs of one length as the columns of a table, one line an item.

    Texts stand first, then `start` and `end`, in seconds, and the others; `confidence` is in percent.

    Args:
        columns: name -> array `[N]`.

    Example:

    >>> print(table({"confidence": np.array([1, 0.5]), "digit": np.array(["7", "0"]), "start": np.array([0.1, 0.5])}))
    digit     start  confidence
    7        0.10 s       100 %
    0        0.50 s        50 %
    """
    order = {"start": 1, "end": 2}
    texts = {name for name, values in columns.items() if values.dtype.kind in "OSU"}
    shown = []
    for name in sorted(columns, key=lambda name: (0 if name in texts else order.get(name, 3), name)):
        cells = [name, *(_cell(name, value) for value in columns[name].tolist())]
        width = max(map(len, cells))
        shown.append([cell.ljust(width) if name in texts else cell.rjust(max(width, 8)) for cell in cells])
    return "\n".join("  ".join(row).rstrip() for row in zip(*shown, strict=True))


def _cell(name, value):
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if name in ("start", "end"):
        return f"{value:.2f} s"
    if name == "confidence":
        return f"{100 * value:.0f} %"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
