"""Tests of strings of spoken digits."""

import collections
import itertools
import re

import numpy as np
import pytest

from keras_dl.data import batches, fingerprint, load
from keras_dl.data.builders import digit_clips
from keras_dl.data.builders.digit_clips import Clip
from keras_dl.data.builders.digit_voices import VOICES
from keras_dl.data.builders.spoken_digits import SpokenDigits, colored_noise, compose, split_clips
from keras_dl.errors import UserError

from .digit_wavs import SPEAKERS, tone, write_digits

COUNTS = {"train": 160, "validation": 40, "test": 200}  # two strings per clip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(write_digits(tmp_path_factory.mktemp("clips"), indices=range(10)))


@pytest.fixture(scope="module")
def splits(folder):
    return load("spoken_digits", clips=folder)


def clips(speakers=SPEAKERS, indices=range(24)):
    zeros = np.zeros(80, np.float32)
    return [Clip(digit, speaker, index, zeros) for speaker in speakers for digit in range(10) for index in indices]


def names(found):
    return {(clip.digit, clip.speaker, clip.index) for clip in found}


def test_official_test_indices_form_the_test_split_and_splits_are_disjoint():
    parts = split_clips(clips())
    assert names(parts["test"]) == {(d, s, i) for d in range(10) for s in SPEAKERS for i in range(5)}
    assert {part: len(found) for part, found in parts.items()} == {"train": 340, "validation": 40, "test": 100}
    every = [name for found in parts.values() for name in names(found)]
    assert len(every) == len(set(every)) == 480
    per_digit = collections.Counter((clip.digit, clip.speaker) for clip in parts["validation"])
    assert set(per_digit.values()) == {2} and len(per_digit) == 20


def test_splits_do_not_depend_on_the_order_of_clips():
    for part, found in split_clips(clips()[::-1]).items():
        assert names(found) == names(split_clips(clips())[part])


def test_the_holdout_speaker_forms_the_test_split():
    parts = split_clips(clips(("ann", "bob", "cid")), "bob")
    assert names(parts["test"]) == {(d, "bob", i) for d in range(10) for i in range(24)}
    assert {clip.speaker for part in ("train", "validation") for clip in parts[part]} == {"ann", "cid"}
    assert min(clip.index for part in ("train", "validation") for clip in parts[part]) == 5
    assert len(parts["train"]) == 340 and len(parts["validation"]) == 40


@pytest.mark.parametrize(
    ("found", "speaker", "message"),
    [
        (clips(), "eve", "no speaker 'eve' in FOLDER. Available: ann, bob"),
        (clips(["ann"]), "ann", "FOLDER has no clip for the train split"),
        (clips(indices=range(5)), None, "FOLDER has no clip for the train split"),
        (clips(indices=range(5, 9)), None, "FOLDER has no clip for the test split"),
        (clips(indices=range(6)), None, "FOLDER has no clip for the validation split"),
    ],
)
def test_each_split_must_have_clips(found, speaker, message):
    with pytest.raises(UserError, match=re.escape(message)):
        split_clips(found, speaker, "FOLDER")


def test_features(splits):
    assert splits.features["waveform"].shape == (None,)
    assert splits.features["label"].feature.names == list("0123456789")
    for split, count in zip(splits, COUNTS.values(), strict=True):
        examples = list(split.as_numpy_iterator())
        assert len(examples) == count
        for example in examples:
            assert example["waveform"].dtype == np.int16 and example["text"].decode() == "".join(
                map(str, example["label"])
            )
            assert 1 <= len(example["label"]) <= 7
            digits, sound = len(example["label"]), len(example["waveform"]) / 8000
            assert 0.8 * (0.1 * digits + 0.2) < sound < 1.25 * (0.1 * digits + 0.8 + 0.3 * (digits - 1)) + 0.01
        assert collections.Counter(example["speaker"] for example in examples) == {
            b"ann": count // 2,
            b"bob": count // 2,
        }


def test_the_clips_of_a_string_are_in_order():
    """Each clip is a tone: the strongest frequency between two pauses identifies digit and speaker."""
    found = [Clip(d, s, i, tone(d, s, i).astype("float32")) for d in range(10) for s in SPEAKERS for i in range(3)]
    for waveform, chosen in compose(found, 20, np.random.default_rng(0)):
        frames = waveform[: len(waveform) // 400 * 400].reshape(-1, 400) * np.hanning(400)
        spectrum = np.abs(np.fft.rfft(frames, 2000))
        spectrum[:, :65] = 0  # the noise is loudest below 260 Hz
        loud = spectrum.max(axis=1) > 0.2 * spectrum.max()
        found_tones = [round((spectrum[n].argmax() * 4 - 300) / 100) for n in np.flatnonzero(loud)]
        tones = [clip.digit + 15 * SPEAKERS.index(clip.speaker) for clip in chosen]
        assert [tone for tone, _ in itertools.groupby(found_tones)] == [tone for tone, _ in itertools.groupby(tones)]
        assert len({clip.speaker for clip in chosen}) == 1


def test_ranges_of_levels_noise_and_speeds():
    loud = [Clip(1, "ann", index, tone(1, "ann", index).astype("float32")) for index in range(4)]
    peaks = [np.abs(waveform.astype(float)).max() for waveform, _ in compose(loud, 300, np.random.default_rng(0))]
    peaks = 20 * np.log10(np.array(peaks) / 2**15)
    assert -30.1 < peaks.min() < -27 and -4 < peaks.max() < -0.9
    noise = []
    for waveform, _ in compose(loud, 300, np.random.default_rng(0)):
        first = waveform[:700].astype(float)  # at least 0.1 seconds before the first digit
        noise.append(20 * np.log10(np.abs(waveform.astype(float)).max() / max(first.std(), 0.3)))
    assert min(noise) > 10 and np.std(noise) > 5
    hertz = []
    for waveform, _ in compose(loud, 100, np.random.default_rng(0), speeds=True):
        hertz.append(np.abs(np.fft.rfft(waveform, 80_000)).argmax() / 10)
    assert 320 - 5 < min(hertz) < 340 and 470 < max(hertz) < 500 + 5  # a tone of 400 Hz
    hertz = [
        np.abs(np.fft.rfft(waveform, 80_000)).argmax() / 10
        for waveform, _ in compose(loud, 20, np.random.default_rng(0))
    ]
    assert np.abs(np.array(hertz) - 400).max() < 5


def test_clips_are_equally_frequent():
    count = collections.Counter()
    for _, chosen in compose(clips(indices=range(2)), 200, np.random.default_rng(0)):
        count.update((clip.speaker, clip.digit, clip.index) for clip in chosen)
    of_ann = [number for (speaker, *_), number in count.items() if speaker == "ann"]
    assert len(count) == 40 and max(of_ann) - min(of_ann) <= 1


@pytest.mark.parametrize("length", [1, 2, 10, 4000])
def test_noise_has_power_one(length):
    noise = colored_noise(length, np.random.default_rng(0))
    assert noise.shape == (length,) and np.isfinite(noise).all()
    if length > 100:
        np.testing.assert_allclose(np.mean(noise**2), 1, rtol=1e-6)


def test_strings_do_not_depend_on_the_folder(splits, folder, tmp_path):
    other = write_digits(tmp_path / "elsewhere", indices=range(10))
    again = load("spoken_digits", clips=str(other))
    one, two = (fingerprint(batches(found, 8).test) for found in (splits, again))
    assert one == two
    held_out = load("spoken_digits", clips=folder, holdout_speaker="bob")
    assert {example["speaker"] for example in held_out.test.as_numpy_iterator()} == {b"bob"}
    assert {example["speaker"] for example in held_out.train.as_numpy_iterator()} == {b"ann"}


def test_other_rates_are_reported_once(tmp_path, capsys):
    folder = write_digits(tmp_path, ["ann"], range(7), rate=16_000)
    examples = list(load("spoken_digits", clips=str(folder)).test.as_numpy_iterator())
    assert len(examples) == 100
    assert capsys.readouterr().err.count("70 of 70 clips have a rate of 16000 Hz and 1 channel") == 1


@pytest.fixture
def few_voices(monkeypatch):
    """Limits the artificial voices to 3 clips per digit and voice, without keeping them in the cache."""
    monkeypatch.setattr(
        digit_clips, "EVERY_VOICE", [which for which in digit_clips.EVERY_VOICE if which[2] in (0, 5, 6)]
    )
    monkeypatch.setattr(digit_clips, "_artificial", digit_clips._artificial.__wrapped__)


def test_artificial_voices_are_the_default(few_voices, tmp_path):
    builder = SpokenDigits(data_dir=tmp_path)
    builder.download_and_prepare()
    examples = builder.as_dataset(split="test").as_numpy_iterator()
    assert {example["speaker"].decode() for example in examples} == set(VOICES)


def test_unknown_speakers_are_reported_with_the_source(folder, few_voices):
    with pytest.raises(UserError, match=re.escape(f"no speaker 'eve' in {folder}. Available: ann, bob")):
        load("spoken_digits", clips=folder, holdout_speaker="eve")
    with pytest.raises(UserError, match="no speaker 'eve' in the artificial voices. Available: alto"):
        load("spoken_digits", holdout_speaker="eve")
