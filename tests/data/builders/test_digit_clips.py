"""Tests of reading clips from all sources, and of invalid sources."""

import io
import re
import tarfile

import numpy as np
import pytest
import tensorflow_datasets as tfds

from keras_dl.data import catalogue
from keras_dl.data.builders import digit_clips
from keras_dl.data.builders.digit_clips import read_clips
from keras_dl.data.builders.digit_voices import VOICES
from keras_dl.errors import UserError

from .digit_wavs import tone, wav, write_digits


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_digits(tmp_path_factory.mktemp("clips"), indices=range(2))


def pack(folder, archive, mode="w"):
    with tarfile.open(archive, mode) as tar:
        tar.add(folder, "some/where")
    return archive


def test_a_folder(folder):
    clips = read_clips(str(folder))
    assert len(clips) == 40
    keys = [(clip.digit, clip.speaker, clip.index) for clip in clips]
    assert keys == sorted(keys) and keys[:3] == [(0, "ann", 0), (0, "ann", 1), (0, "bob", 0)]
    for clip in clips:
        np.testing.assert_allclose(clip.waveform, tone(clip.digit, clip.speaker, clip.index), atol=1e-4)


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_tar_archive_is_read_without_unpacking(mode, folder, tmp_path):
    archive = pack(folder, tmp_path / "recordings.tar", mode)
    before = sorted(tmp_path.rglob("*"))
    for one, other in zip(read_clips(str(archive)), read_clips(str(folder)), strict=True):
        assert (one.digit, one.speaker, one.index) == (other.digit, other.speaker, other.index)
        np.testing.assert_array_equal(one.waveform, other.waveform)
    assert sorted(tmp_path.rglob("*")) == before


def test_links_in_archives_are_ignored(tmp_path):
    with tarfile.open(tmp_path / "odd.tar", "w") as tar:
        link = tarfile.TarInfo("1_ann_0.wav")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
        content = wav(tone(2, "ann", 0))
        member = tarfile.TarInfo("../../2_ann_0.wav")
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    assert [clip.digit for clip in read_clips(str(tmp_path / "odd.tar"))] == [2]


def test_other_rates_are_converted_and_reported_once(tmp_path, capsys):
    folder = write_digits(tmp_path, ["ann"], range(2), rate=16_000)
    clips = read_clips(str(folder))
    for clip in clips:
        expected = tone(clip.digit, clip.speaker, clip.index)
        np.testing.assert_allclose(clip.waveform[100:-100], expected[100:-100], atol=0.01)
    expected = f"{folder}: 20 of 20 clips have a rate of 16000 Hz and 1 channel; converted to 8000 Hz and one channel\n"
    assert capsys.readouterr().err == expected


def test_artificial_voices(monkeypatch):
    every = digit_clips.EVERY_VOICE
    assert len(set(every)) == 1250
    monkeypatch.setattr(digit_clips, "EVERY_VOICE", [which for which in every if which[2] == 3])
    monkeypatch.setattr(digit_clips, "_artificial", digit_clips._artificial.__wrapped__)  # keeps these out of the cache
    clips = read_clips()
    assert {(clip.digit, clip.speaker) for clip in clips} == {(digit, voice) for digit in range(10) for voice in VOICES}
    for clip in clips:
        assert clip.waveform.dtype == np.float32 and 0.1 < len(clip.waveform) / 8000 < 1
        assert 0.4 < np.abs(clip.waveform).max() <= 0.5
    (clip,) = [clip for clip in clips if (clip.digit, clip.speaker) == (7, "alto")]
    np.testing.assert_array_equal(clip.waveform, digit_clips.speak(7, "alto", 3))
    assert not np.array_equal(clip.waveform, digit_clips.speak(7, "alto", 4))


def test_recordings_of_tensorflow_datasets(monkeypatch):
    class Recordings:
        def __init__(self):
            audio = tfds.features.Audio(sample_rate=8000)
            features = {"audio": audio, "audio/filename": tfds.features.Text(), "label": tfds.features.Text()}
            self.info = type("Info", (), {"features": features, "splits": ["train"]})

        def as_dataset(self, split, shuffle_files):
            yield {"audio": np.array([0, 16384, -32768]), "audio/filename": b"7_nicolas_12.wav"}

    monkeypatch.setattr(catalogue, "find", lambda name: Recordings())
    monkeypatch.setattr(catalogue, "prepare", lambda builder, name: builder)
    monkeypatch.setattr(tfds, "as_numpy", lambda data: data)
    (clip,) = read_clips("tfds:spoken_digit")
    assert (clip.digit, clip.speaker, clip.index) == (7, "nicolas", 12)
    assert clip.waveform.tolist() == [0, 0.5, -1]


def test_other_data_sets_of_tensorflow_datasets_are_rejected():
    with pytest.raises(UserError, match="tfds:mnist is not a set of spoken digits: .* Received: image, label"):
        read_clips("tfds:mnist")


def empty(folder):
    (folder / "3_ann_0.wav").write_bytes(b"")


def broken(folder):
    (folder / "3_ann_0.wav").write_bytes(b"RIFF broken")


def twice(folder):
    write_digits(folder, ["ann"], [0])
    (folder / "3_ann_0.wav").write_bytes(wav(tone(3, "ann", 0)))


def no_clips(folder):
    (folder / "readme.wav").write_bytes(b"x")


def no_digit(folder):
    (folder / "12_ann_0.wav").write_bytes(b"x")


def no_tar(folder):
    (folder / "recordings.tar").write_bytes(b"no tar" * 1000)


def cut_tar(folder):
    write_digits(folder / "in", ["ann"], [0])
    archive = pack(folder / "in", folder / "recordings.tar", "w:gz")
    archive.write_bytes(archive.read_bytes()[: archive.stat().st_size // 2])


@pytest.mark.parametrize(
    ("prepare", "name", "message"),
    [
        (empty, "", "3_ann_0.wav is empty: expected a WAV file"),
        (broken, "", "3_ann_0.wav is not a readable WAV file"),
        (twice, "", "contains 3_ann_0.wav twice: at "),
        (no_clips, "", "contains no clips: expected files such as 7_theo_12.wav"),
        (no_digit, "", "contains no clips: expected files such as 7_theo_12.wav"),
        (no_clips, "elsewhere", "elsewhere do not exist: expected a folder or a tar archive"),
        (no_tar, "recordings.tar", "recordings.tar is not a readable tar archive"),
        (cut_tar, "recordings.tar", "recordings.tar is not a readable tar archive"),
    ],
)
def test_invalid_sources(prepare, name, message, tmp_path):
    prepare(tmp_path)
    with pytest.raises(UserError, match=re.escape(message)):
        read_clips(str(tmp_path / name))


def test_clips_that_are_too_long(tmp_path, monkeypatch):
    monkeypatch.setattr(digit_clips, "LARGEST", 1000)
    archive = pack(write_digits(tmp_path / "in", ["ann"], [0]), tmp_path / "recordings.tar")
    with pytest.raises(UserError, match=r"0_ann_0.wav in .*recordings.tar is too large for a clip: 1644 bytes"):
        read_clips(str(archive))
