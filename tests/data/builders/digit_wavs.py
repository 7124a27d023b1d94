"""Small folders of recordings in the layout of the Free Spoken Digit Dataset, where each clip is a distinct tone."""

import io

import numpy as np
from scipy.io import wavfile

SPEAKERS = ("ann", "bob")


def tone(digit, speaker, index, rate=8000, seconds=0.1):
    """A clip that identifies digit and speaker by its frequency and the index by its amplitude."""
    time = np.arange(int(seconds * rate)) / rate
    hertz = 300 + 100 * digit + 1500 * SPEAKERS.index(speaker)
    return (0.1 + 0.02 * index) * np.sin(2 * np.pi * hertz * time)


def wav(samples, rate=8000):
    file = io.BytesIO()
    wavfile.write(file, rate, np.round(samples * 2**15).astype(np.int16))
    return file.getvalue()


def write_digits(folder, speakers=SPEAKERS, indices=range(8), rate=8000, digits=range(10)):
    """Writes `{digit}_{speaker}_{index}.wav` in a folder per speaker and returns the parent folder."""
    for speaker in speakers:
        (folder / speaker).mkdir(parents=True, exist_ok=True)
        for digit in digits:
            for index in indices:
                content = wav(tone(digit, speaker, index, rate), rate)
                (folder / speaker / f"{digit}_{speaker}_{index}.wav").write_bytes(content)
    return folder
