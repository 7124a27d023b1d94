"""Connected spoken digits, composed from recordings of single digits."""

import collections
import dataclasses
import hashlib

import numpy as np
import tensorflow_datasets as tfds

from keras_dl.data.audio import to_int16
from keras_dl.data.builders.base import BaseBuilder
from keras_dl.data.builders.digit_clips import RATE, read_clips
from keras_dl.errors import UserError

SPLITS = ("train", "validation", "test")
STRINGS_PER_CLIP = 2  # with 4 clips per string on average, each clip is used 8 times
LONGEST = 7
TEST_INDICES = range(5)
DIGITS = [str(digit) for digit in range(10)]


@dataclasses.dataclass(eq=False)
class SpokenDigitsConfig(tfds.core.BuilderConfig):
    """The source of the clips, and the speaker held out for testing; see `SpokenDigits`."""

    clips: str | None = None
    holdout_speaker: str | None = None


class SpokenDigits(BaseBuilder):
    """Strings of 1 to 7 digits, each spoken by one speaker, with pauses, levels and noise.

    The clips are split first, so that none is in two splits. The official test indices 0 to 4 form the test split; a
    ninth of the other clips of each digit and speaker forms the validation split. With `holdout_speaker`, the test
    split has all clips of that speaker and no others, and the indices 0 to 4 of the other speakers are not used. From
    the clips of each split, `compose` creates two strings per clip, and varies the speed of the training strings. All
    draws derive from one seed.

    Features: `waveform` int16 `[samples]` at 8000 Hz; `text`, for example "2024"; `label` int64 `[length]`; `speaker`.

    Source: `clips`, a folder or a tar archive with files `{digit}_{speaker}_{index}.wav` at any depth, as in the Free
    Spoken Digit Dataset (CC BY-SA 4.0), or that data set as `"tfds:spoken_digit"`. Without it, the clips are
    artificial: see `digit_voices`.
    """

    SEED = 2024

    def __init__(self, clips=None, holdout_speaker=None, **kwargs):
        if "config" in kwargs:
            clips, holdout_speaker = kwargs["config"].clips, kwargs["config"].holdout_speaker
        # Read here, because the name of the configuration depends on the content.
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
                    # As bytes, because TFDS would otherwise store each sample as a variable-length integer.
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

    def _examples(self, clips, generator, speeds):
        strings = compose(clips, STRINGS_PER_CLIP * len(clips), generator, speeds)
        for key, (waveform, chosen) in enumerate(strings):
            text = "".join(str(clip.digit) for clip in chosen)
            label = [clip.digit for clip in chosen]
            yield key, {"waveform": waveform, "text": text, "label": label, "speaker": chosen[0].speaker}


def split_clips(clips, holdout_speaker=None, name="the clips"):
    """Assigns each clip to one split.

    Args:
        clips: list of `Clip`.
        holdout_speaker: str or None, the speaker whose clips form the test split.
        name: the name of the clips in error messages.

    Returns:
        `{split: [clip, ...]}`.

    Raises:
        UserError: if the speaker does not exist, or a split would be empty.
    """
    speakers = sorted({clip.speaker for clip in clips})
    if holdout_speaker is not None and holdout_speaker not in speakers:
        raise UserError(f"no speaker {holdout_speaker!r} in {name}. Available: {', '.join(speakers)}")
    parts = {split: [] for split in SPLITS}
    rest = collections.defaultdict(list)
    for clip in sorted(clips, key=lambda clip: (clip.speaker, clip.digit, clip.index)):
        if clip.speaker == holdout_speaker or (holdout_speaker is None and clip.index in TEST_INDICES):
            parts["test"].append(clip)
        elif clip.index not in TEST_INDICES:
            rest[clip.speaker, clip.digit].append(clip)
    for found in rest.values():
        count = len(found) // 9 or int(len(found) > 1)
        # Spread over the indices: consecutive clips were recorded in sequence and sound alike.
        chosen = {len(found) * number // count for number in range(count)} if count else set()
        for position, clip in enumerate(found):
            parts["validation" if position in chosen else "train"].append(clip)
    for split, found in parts.items():
        if not found:
            raise UserError(
                f"{name} has no clip for the {split} split: the indices 0 to 4 are for testing, the others for "
                "training and validation"
            )
    return parts


def compose(clips, count, generator, speeds=False):
    """Composes strings of clips of one speaker, with pauses, levels and noise as in real recordings.

    A string has 1 to 7 digits, pauses of 0 to 0.3 seconds between them and of 0.1 to 0.4 seconds before and after.
    Each clip is up to 3 dB louder or softer. The peak of the string is -30 to -1 dB of full scale; its noise is 15 to
    45 dB below the speech and falls by 0 to 6 dB per octave. All speakers occur equally often, and so do all clips of a
    speaker.

    Args:
        clips: list of `Clip`.
        count: int, the number of strings.
        generator: `numpy.random.Generator`.
        speeds: bool, whether to play strings at 0.8 to 1.25 times their speed, which also shifts pitch and formants.
            Defaults to False.

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
        noise = np.sqrt(power) * 10 ** (-generator.uniform(15, 45) / 20) * colored_noise(len(speech), generator)
        mixed = speech + noise
        level = 10 ** (-generator.uniform(1, 30) / 20)
        yield to_int16(mixed * level / max(np.abs(mixed).max(), 1e-9)), chosen


def colored_noise(length, generator):
    """Generates noise of power 1, float `[length]`, that falls by a random 0 (white) to 6 dB (brown) per octave."""
    spectrum = np.fft.rfft(generator.normal(size=length))
    falling = np.maximum(np.arange(len(spectrum)), 1.0 + length // 100) ** -generator.uniform(0, 1)  # flat below 80 Hz
    noise = np.fft.irfft(spectrum * falling, length)
    return noise / max(np.sqrt(np.mean(np.square(noise))), 1e-9)
