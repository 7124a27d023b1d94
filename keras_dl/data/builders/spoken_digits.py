"""Connected spoken digits, composed from recordings of single ones."""

import collections
import dataclasses
import hashlib

import numpy as np
import tensorflow_datasets as tfds

from keras_dl.data.audio import to_int16
from keras_dl.data.builders.digit_clips import RATE, read_clips
from keras_dl.errors import UserError

SPLITS = ("train", "validation", "test")
STRINGS_A_CLIP = 2  # a string has 4 clips on average: each is heard 8 times
LONGEST = 7
TEST_INDICES = range(5)
DIGITS = [str(digit) for digit in range(10)]


@dataclasses.dataclass(eq=False)
class SpokenDigitsConfig(tfds.core.BuilderConfig):
    """Where the clips come from, and who is kept for the test.

    Args:
        clips: a folder, a tar archive, `"tfds:spoken_digit"`, or None for artificial voices.
        holdout_speaker: the speaker whose clips are in the test split alone, or None.
    """

    clips: str | None = None
    holdout_speaker: str | None = None


class SpokenDigits(tfds.core.GeneratorBasedBuilder):
    """Strings of 1 to 7 digits, each spoken by one speaker, with pauses, levels and noise.

    The clips are split first, so that none is in two splits: those with the official test indices 0 to 4 are the test
    part, of every digit and speaker a ninth of the others is the validation part. With `holdout_speaker` the test part
    is all of that speaker, whatever the index, and nothing of anybody else; of the others the indices 0 to 4 are then
    left out. From these 4000/500/500 strings are composed by `compose`; those to train on also at other speeds. Every
    draw comes from one seed.

    Features: `waveform` int16 `[samples]`, 8000 a second; `text`, for example "2024"; `label` int64 `[length]`;
    `speaker`.

    Source: `clips`, a folder or a tar archive with files `{digit}_{speaker}_{index}.wav` wherever in it, as the Free
    Spoken Digit Dataset (CC BY-SA 4.0) has them, or that set itself as `"tfds:spoken_digit"`. Without it the clips are
    artificial: see `digit_voices`.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First."}
    SEED = 2024

    def __init__(self, clips=None, holdout_speaker=None, **kwargs):
        if "config" in kwargs:
            clips, holdout_speaker = kwargs["config"].clips, kwargs["config"].holdout_speaker
        # Read once, for what they are is the name of the configuration.
        self._parts = split_clips(read_clips(clips), holdout_speaker, clips or "the artificial voices")
        if "config" not in kwargs:
            digest = hashlib.sha256()
            for split, found in self._parts.items():
                for clip in found:
                    digest.update(f"{split} {clip.digit} {clip.speaker} {clip.index}".encode())
                    digest.update(clip.waveform.tobytes())
            name = f"clips_{digest.hexdigest()[:16]}"
            kwargs["config"] = SpokenDigitsConfig(name=name, clips=clips, holdout_speaker=holdout_speaker)
        super().__init__(**kwargs)

    def _info(self):
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    # As bytes: TFDS would write each sample as an integer of variable length.
                    "waveform": tfds.features.Tensor(shape=(None,), dtype=np.int16, encoding="bytes"),
                    "text": tfds.features.Text(),
                    "label": tfds.features.Sequence(tfds.features.ClassLabel(names=DIGITS)),
                    "speaker": tfds.features.Text(),
                }
            ),
            homepage="https://github.com/Jakobovski/free-spoken-digit-dataset",
        )

    def _split_generators(self, dl_manager):
        return {
            split: self._examples(self._parts[split], np.random.default_rng([self.SEED, order]), split == "train")
            for order, split in enumerate(SPLITS)
        }

    def _generate_examples(self):
        raise AssertionError("_split_generators returns the generators themselves")

    def _examples(self, clips, generator, speeds):
        strings = compose(clips, STRINGS_A_CLIP * len(clips), generator, speeds)
        for key, (waveform, chosen) in enumerate(strings):
            text = "".join(str(clip.digit) for clip in chosen)
            label = [clip.digit for clip in chosen]
            yield key, {"waveform": waveform, "text": text, "label": label, "speaker": chosen[0].speaker}


def split_clips(clips, holdout_speaker=None, name="the clips"):
    """The clips of each split, none in two.

    Args:
        clips: list of `Clip`.
        holdout_speaker: str or None, whose clips are the test part.
        name: what to call the clips in an error.

    Returns:
        dict of the names of the splits to lists of clips.

    Raises:
        UserError: if there is no such speaker, or a split would be empty.
    """
    speakers = sorted({clip.speaker for clip in clips})
    if holdout_speaker is not None and holdout_speaker not in speakers:
        raise UserError(f"there is no speaker {holdout_speaker!r} in {name}. There is: {', '.join(speakers)}")
    parts = {split: [] for split in SPLITS}
    rest = collections.defaultdict(list)
    for clip in sorted(clips, key=lambda clip: (clip.speaker, clip.digit, clip.index)):
        if clip.speaker == holdout_speaker or (holdout_speaker is None and clip.index in TEST_INDICES):
            parts["test"].append(clip)
        elif clip.index not in TEST_INDICES:
            rest[clip.speaker, clip.digit].append(clip)
    for found in rest.values():
        held = len(found) // 9 or int(len(found) > 1)
        # Spread over the indices: neighbours were recorded one after the other, and sound alike.
        chosen = {len(found) * number // held for number in range(held)} if held else set()
        for position, clip in enumerate(found):
            parts["validation" if position in chosen else "train"].append(clip)
    for split, found in parts.items():
        if not found:
            raise UserError(
                f"{name} leaves no clip for the {split} split: the indices 0 to 4 are to test on, the others to train "
                "and validate on"
            )
    return parts


def compose(clips, count, generator, speeds=False):
    """Clips of one speaker after each other, with what a recording has besides.

    A length of 1 to 7 digits; pauses of 0 to 0.3 seconds between them and of 0.1 to 0.4 before and after; each clip up
    to 3 dB louder or softer; the whole at a peak of -30 to -1 dB of the largest number, in noise 15 to 45 dB below the
    speech, which falls by 0 to 6 dB an octave. Every speaker comes equally often, and so does every clip of one.

    Args:
        clips: list of `Clip`.
        count: int, the number of strings.
        generator: `numpy.random.Generator`.
        speeds: bool, whether a string is also played at 0.8 to 1.25 times its speed, pitch and formants with it: other
            voices. Defaults to False.

    Yields:
        `(waveform, chosen)`: int16 `[samples]`, and the clips in it.
    """
    from scipy.signal import resample_poly

    voices = collections.defaultdict(list)
    for clip in clips:
        voices[clip.speaker].append(clip)
    decks = {speaker: [] for speaker in voices}
    order = []
    for _ in range(count):
        order = order or list(generator.permutation(sorted(voices)))
        speaker = order.pop()
        chosen = []
        for _ in range(generator.integers(1, LONGEST + 1)):
            deck = decks[speaker] = decks[speaker] or list(generator.permutation(len(voices[speaker])))
            chosen.append(voices[speaker][deck.pop()])
        pauses = generator.uniform(0, 0.3, len(chosen) + 1)
        pauses[[0, -1]] = generator.uniform(0.1, 0.4, 2)
        pieces = [np.zeros(int(pauses[0] * RATE))]
        for clip, pause in zip(chosen, pauses[1:], strict=True):
            pieces += [clip.waveform * 10 ** (generator.uniform(-3, 3) / 20), np.zeros(int(pause * RATE))]
        speech = np.concatenate(pieces)
        if speeds:
            speech = resample_poly(speech, 40, int(generator.integers(32, 51)))
        power = np.mean(np.square(np.concatenate(pieces[1::2]))) + 1e-12
        noise = np.sqrt(power) * 10 ** (-generator.uniform(15, 45) / 20) * coloured_noise(len(speech), generator)
        mixed = speech + noise
        level = 10 ** (-generator.uniform(1, 30) / 20)
        yield to_int16(mixed * level / max(np.abs(mixed).max(), 1e-9)), chosen


def coloured_noise(length, generator):
    """Noise of power 1 that falls by 0 (white) to 6 dB (brown) an octave, drawn at random, float `[length]`."""
    spectrum = np.fft.rfft(generator.normal(size=length))
    falling = np.maximum(np.arange(len(spectrum)), 1.0 + length // 100) ** -generator.uniform(0, 1)  # flat below 80 Hz
    noise = np.fft.irfft(spectrum * falling, length)
    return noise / max(np.sqrt(np.mean(np.square(noise))), 1e-9)
