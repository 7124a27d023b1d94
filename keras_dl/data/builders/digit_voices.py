"""Artificial voices that speak single digits, for use without recordings.

The voices are a placeholder: results on them do not carry over to human speech. A voice consists of the harmonics of a
pitch, weighted by the resonances (formants) of each sound, plus noise for fricatives, with smooth transitions between
sounds.

Reference for the vowel formants: Peterson and Barney 1952, "Control methods used in a study of the vowels", JASA 24.
The other sounds were tuned by ear.
"""

import numpy as np

RATE, HIGHEST = 8000, 3800

# Pitch in Hz, and the length of the vocal tract relative to the table below: formants are divided by it.
VOICES = {"alto": (190, 0.88), "baritone": (105, 1.0), "bass": (85, 1.08), "soprano": (230, 0.82), "tenor": (135, 0.96)}

# First three formants in Hz, amplitude of the voice, amplitude of the noise, center of the noise in Hz.
SOUNDS = {
    "AH": (640, 1190, 2390, 1.0, 0, 0),
    "AO": (570, 840, 2410, 1.0, 0, 0),
    "EH": (530, 1840, 2480, 1.0, 0, 0),
    "EY": (400, 2080, 2600, 1.0, 0, 0),
    "F": (350, 1100, 2300, 0.0, 0.08, 3000),
    "IH": (390, 1990, 2550, 0.9, 0, 0),
    "IY": (270, 2290, 3010, 0.8, 0, 0),
    "K": (300, 1900, 2400, 0.0, 0.25, 1800),
    "N": (280, 1300, 2500, 0.4, 0, 0),
    "OW": (430, 850, 2300, 0.9, 0, 0),
    "R": (420, 1250, 1650, 0.7, 0, 0),
    "S": (350, 1700, 2600, 0.0, 0.3, 3700),
    "T": (350, 1700, 2600, 0.0, 0.3, 3200),
    "TH": (350, 1300, 2500, 0.0, 0.06, 2500),
    "UW": (300, 870, 2240, 0.8, 0, 0),
    "V": (280, 1100, 2200, 0.3, 0.03, 3000),
    "W": (300, 650, 2200, 0.6, 0, 0),
    "Z": (280, 1600, 2500, 0.25, 0.2, 3700),
    "-": (350, 1500, 2500, 0.0, 0, 0),
}
# The sounds of each digit and their durations in milliseconds.
DIGITS = (
    "Z 70 IH 60 R 80 OW 150",
    "W 70 AH 120 N 110",
    "- 20 T 40 UW 180",
    "TH 90 R 70 IY 160",
    "F 90 AO 130 R 90",
    "F 80 AH 110 IH 80 V 70",
    "S 100 IH 80 - 50 K 30 S 110",
    "S 100 EH 80 V 60 AH 50 N 90",
    "EH 60 EY 90 - 50 T 50",
    "N 80 AH 120 IH 80 N 90",
)


def speak(digit: int, voice: str, index: int) -> np.ndarray:
    """Synthesizes a spoken digit, reproducibly for the same arguments.

    Args:
        digit: int from 0 to 9.
        voice: one of `VOICES`.
        index: int, the number of the variant; variants differ in tempo, pitch and formants.

    Returns:
        float32 `[samples]` from -1 to 1, at 8000 Hz.
    """
    generator = np.random.default_rng([digit, sorted(VOICES).index(voice), index])
    words = DIGITS[digit].split()
    tempo = generator.uniform(0.8, 1.3)
    lengths = [int(int(ms) * RATE / 1000 * tempo * generator.uniform(0.85, 1.15)) for ms in words[1::2]]
    tracks = np.repeat(np.array([SOUNDS[sound] for sound in words[::2]], float), lengths, axis=0)
    noise = np.zeros(len(tracks))
    for center in sorted({SOUNDS[sound][5] for sound in words[::2]} - {0}):
        noise += _hiss(len(tracks), center, generator) * _glide(tracks[:, 4] * (tracks[:, 5] == center), 80)
    formants = np.stack([_glide(tracks[:, column], 400) for column in range(3)], axis=1)
    pitch, tract = VOICES[voice]
    formants *= generator.normal(1, 0.03, 3) / tract
    falling = np.linspace(1.08, 0.88, len(tracks)) * generator.uniform(0.9, 1.12)
    voiced = _voice(pitch * falling, formants, _glide(tracks[:, 3], 160))
    sound = voiced / max(np.abs(voiced).max(), 1e-9) + noise
    edge = np.minimum(1, np.minimum(np.arange(len(sound)), np.arange(len(sound))[::-1]) / 80)  # fades of 10 ms
    return (0.5 * edge * sound / np.abs(sound).max()).astype(np.float32)


def _voice(pitch, formants, loudness):
    """Synthesizes the harmonics of a pitch `[samples]`, weighted by formants `[samples, 3]`."""
    time, coarse = np.arange(len(pitch)), np.arange(0, len(pitch) + 16, 16)  # resonances change slowly
    here = coarse.clip(max=len(pitch) - 1)
    hertz = pitch[here] * np.arange(1, int(HIGHEST / pitch.min()) + 1)[:, None]
    gains = 0.003 + sum(
        height / (1 + np.square((hertz - formants[here, column]) / width))
        for column, (height, width) in enumerate([(1.0, 60), (0.6, 90), (0.3, 130)])
    )
    gains = np.where(hertz < HIGHEST, gains / np.sqrt(np.arange(1, len(gains) + 1))[:, None], 0)
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    # sin((k + 1) x) = 2 cos(x) sin(k x) - sin((k - 1) x)
    turn, before, wave, sound = 2 * np.cos(phase), 0.0, np.sin(phase), np.zeros(len(pitch))
    for gain in gains:
        sound += np.interp(time, coarse, gain) * wave
        before, wave = wave, turn * wave - before
    return sound * loudness


def _hiss(length, center, generator):
    """Generates noise around a center frequency, with standard deviation 1."""
    hertz = np.fft.rfftfreq(length, 1 / RATE)
    spectrum = np.fft.rfft(generator.normal(size=length)) * np.exp(-np.square((hertz - center) / 600) / 2)
    noise = np.fft.irfft(spectrum, length)
    return noise / max(noise.std(), 1e-9)


def _glide(track, samples):
    """Smooths a step function with a moving average over the given number of samples."""
    padded = np.pad(track, samples // 2, mode="edge")
    sums = np.cumsum(np.concatenate([[0.0], padded]))
    return (sums[samples:] - sums[:-samples])[: len(track)] / samples
