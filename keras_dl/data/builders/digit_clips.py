"""Recordings of single spoken digits: where they are found."""

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
from keras_dl.errors import UserError

RATE = 8000
LAYOUT = re.compile(r"(\d)_(.+)_(\d+)\.wav")
EVERY_VOICE = [(digit, voice, index) for digit in range(10) for voice in sorted(VOICES) for index in range(25)]
LARGEST = 10_000_000  # bytes; a spoken digit has 10 000


@dataclasses.dataclass(frozen=True, eq=False)
class Clip:
    """One digit, spoken once.

    Args:
        digit: int from 0 to 9.
        speaker: str.
        index: int, the number of the recording.
        waveform: float32 `[samples]` from -1 to 1, 8000 a second.
    """

    digit: int
    speaker: str
    index: int
    waveform: np.ndarray


def read_clips(source=None):
    """The clips of a source, in one order wherever they lie.

    Args:
        source: str, a folder or a tar archive with files `{digit}_{speaker}_{index}.wav` wherever in it, or
            `"tfds:spoken_digit"`; None (default) for artificial voices.

    Returns:
        list of `Clip`.

    Raises:
        UserError: if there is no such source, it holds no clip or one twice, or a file cannot be read.
    """
    if source is None:
        return _artificial()
    if source.startswith("tfds:"):
        files = _tfds_recordings(source)
    else:
        path = Path(source)
        if not path.exists():
            raise UserError(f"no folder or tar archive {source} with clips")
        files = ((name, *decode_wav(content, name)) for name, content in (_walk(path) if path.is_dir() else _tar(path)))
    clips, other = {}, collections.Counter()
    for name, samples, rate in files:
        digit, speaker, index = LAYOUT.fullmatch(Path(name).name).groups()
        key = int(digit), speaker, int(index)
        if key in clips:
            raise UserError(f"{source} holds {Path(name).name} twice: at {name} and elsewhere")
        if rate != RATE or samples.shape[1] > 1:
            other[rate, samples.shape[1]] += 1
        clips[key] = Clip(*key, fit_audio(samples, rate, RATE))
    if not clips:
        raise UserError(
            f"{source} holds no clip: expected files such as 7_theo_12.wav ({{digit}}_{{speaker}}_{{index}})"
        )
    for (rate, channels), count in sorted(other.items()):
        words = f"{count} of {len(clips)} clips have {rate} Hz and {channels} channel{'s' * (channels > 1)}"
        print(f"{source}: {words}; they are brought to {RATE} Hz and one channel", file=sys.stderr)
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
    """The clips of an archive; its members are read, and never written anywhere."""
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                if member.isfile() and LAYOUT.fullmatch(Path(member.name).name):
                    if member.size > LARGEST:
                        raise UserError(f"{member.name} in {path} is too long for a clip: {member.size} bytes")
                    yield member.name, archive.extractfile(member).read()
    except (tarfile.TarError, OSError, EOFError) as error:
        raise UserError(f"{path} is no tar archive that can be read: {error}") from error


def _tfds_recordings(source):
    import tensorflow_datasets as tfds

    builder = catalogue.find(source)
    features = builder.info.features
    if not {"audio", "audio/filename"} <= set(features):
        raise UserError(f"{source} is no set of spoken digits: it has {', '.join(features)}, and no audio/filename")
    catalogue.prepare(builder, source)
    rate = features["audio"].sample_rate or RATE
    for split in sorted(builder.info.splits):
        for example in tfds.as_numpy(builder.as_dataset(split=split, shuffle_files=False)):
            name = example["audio/filename"].decode()
            if not LAYOUT.fullmatch(name):
                raise UserError(f"{source} has a file {name!r}: expected {{digit}}_{{speaker}}_{{index}}.wav")
            yield name, (example["audio"][:, None] / 2**15).astype(np.float32), rate
