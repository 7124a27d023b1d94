"""Recordings of single spoken digits, from files, TensorFlow Datasets or synthesis."""

import collections
import dataclasses
import functools
import re
import sys
import tarfile
from pathlib import Path

import numpy as np

from keras_dl.data import catalogue
from keras_dl.data.audio import decode_wav, fit_audio
from keras_dl.data.builders.digit_voices import VOICES, speak
from keras_dl.errors import UserError, reason_of

RATE = 8000
LAYOUT = re.compile(r"(\d)_(.+)_(\d+)\.wav")
EVERY_VOICE = [(digit, voice, index) for digit in range(10) for voice in sorted(VOICES) for index in range(25)]
LARGEST = 10_000_000  # bytes; a typical clip has 10,000


@dataclasses.dataclass(frozen=True, eq=False)
class Clip:
    """A recording of one spoken digit: float32 `[samples]` from -1 to 1, at 8000 Hz."""

    digit: int
    speaker: str
    index: int
    waveform: np.ndarray


def read_clips(source=None):
    """Reads the clips of a source, sorted by digit, speaker and index.

    Args:
        source: str, a folder or a tar archive with files `{digit}_{speaker}_{index}.wav` at any depth, or
            `"tfds:spoken_digit"`; None (default) for artificial voices.

    Returns:
        list of `Clip`.

    Raises:
        UserError: if the source does not exist, contains no clip or a duplicate, or a file cannot be read.
    """
    if source is None:
        return _artificial()
    if source.startswith("tfds:"):
        files = _tfds_recordings(source)
    else:
        path = Path(source)
        if not path.exists():
            raise UserError(f"the clips {source} do not exist: expected a folder or a tar archive")
        files = ((name, *decode_wav(content, name)) for name, content in (_walk(path) if path.is_dir() else _tar(path)))
    clips, other = {}, collections.Counter()
    for name, samples, rate in files:
        digit, speaker, index = LAYOUT.fullmatch(Path(name).name).groups()
        key = int(digit), speaker, int(index)
        if key in clips:
            raise UserError(f"{source} contains {Path(name).name} twice: at {name} and elsewhere")
        if rate != RATE or samples.shape[1] > 1:
            other[rate, samples.shape[1]] += 1
        clips[key] = Clip(*key, fit_audio(samples, rate, RATE))
    if not clips:
        raise UserError(
            f"{source} contains no clips: expected files such as 7_theo_12.wav ({{digit}}_{{speaker}}_{{index}})"
        )
    for (rate, channels), count in sorted(other.items()):
        found = f"{count} of {len(clips)} clips have a rate of {rate} Hz and {channels} channel{'s' * (channels > 1)}"
        print(f"{source}: {found}; converted to {RATE} Hz and one channel", file=sys.stderr)
    return [clips[key] for key in sorted(clips)]


@functools.cache
def _artificial():
    return [Clip(*which, speak(*which)) for which in EVERY_VOICE]


def _walk(folder):
    for path in sorted(folder.rglob("*.wav")):
        if LAYOUT.fullmatch(path.name):
            try:
                yield str(path), path.read_bytes()
            except OSError as error:
                raise UserError(f"cannot read {path}: {error.strerror or error}") from error


def _tar(path):
    """Yields the clips of an archive, without extracting them to disk."""
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                if member.isfile() and LAYOUT.fullmatch(Path(member.name).name):
                    if member.size > LARGEST:
                        raise UserError(f"{member.name} in {path} is too large for a clip: {member.size} bytes")
                    yield member.name, archive.extractfile(member).read()
    except (tarfile.TarError, OSError, EOFError) as error:
        raise UserError(f"{path} is not a readable tar archive: {reason_of(error)}") from error


def _tfds_recordings(source):
    import tensorflow_datasets as tfds

    builder = catalogue.find(source)
    features = builder.info.features
    if not {"audio", "audio/filename"} <= set(features):
        raise UserError(
            f"{source} is not a set of spoken digits: expected the features audio and audio/filename. "
            f"Received: {', '.join(features)}"
        )
    catalogue.prepare(builder, source)
    rate = features["audio"].sample_rate or RATE
    for split in sorted(builder.info.splits):
        for example in tfds.as_numpy(builder.as_dataset(split=split, shuffle_files=False)):
            name = example["audio/filename"].decode()
            if not LAYOUT.fullmatch(name):
                raise UserError(f"{source}: expected files {{digit}}_{{speaker}}_{{index}}.wav. Received: {name!r}")
            yield name, (example["audio"][:, None] / 2**15).astype(np.float32), rate
