"""A sound file as a request, and the table of what was heard."""

import io
import re
import sys

import numpy as np
import pytest
from scipy.io import wavfile

from keras_dl.errors import UserError
from keras_dl.serving.recording import read_recording, table

TONE = 0.5 * np.sin(2 * np.pi * 440 * np.arange(4000) / 8000)


@pytest.fixture
def file(tmp_path):
    def write(samples, rate=8000, name="tone.wav"):
        wavfile.write(tmp_path / name, rate, (np.asarray(samples) * 2**15).astype(np.int16))
        return str(tmp_path / name)

    return write


def test_a_file_as_inputs(file, capsys):
    inputs = read_recording(file(TONE))
    assert set(inputs) == {"waveform", "length"}
    assert inputs["waveform"].dtype == np.float32 and inputs["waveform"].shape == (1, 4000)
    assert inputs["length"].dtype == np.int32 and inputs["length"].tolist() == [4000]
    np.testing.assert_allclose(inputs["waveform"][0], TONE, atol=1e-4)
    assert capsys.readouterr().err == ""


def test_another_rate_and_channels_are_said_once(file, capsys):
    path = file(np.stack([TONE, TONE, TONE], axis=1), 16_000)
    inputs = read_recording(path)
    assert inputs["waveform"].shape == (1, 2000)
    assert capsys.readouterr().err == f"{path} has 16000 Hz, resampled to 8000 Hz; 3 channels, mixed to one\n"


def test_standard_input(file, monkeypatch):
    with open(file(TONE), "rb") as content:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content.read())))
    assert read_recording("-")["length"].tolist() == [4000]
    with pytest.raises(UserError, match="standard input is empty: expected a WAV file"):
        read_recording("-")


def test_what_cannot_be_heard_is_refused_in_one_line(file, tmp_path):
    (tmp_path / "empty.wav").write_bytes(b"")
    (tmp_path / "song.wav").write_bytes(b"ID3 a song")
    cases = {
        str(tmp_path / "none.wav"): "cannot read the recording .*none.wav: No such file or directory",
        str(tmp_path): "cannot read the recording .*: Is a directory",
        str(tmp_path / "empty.wav"): "empty.wav is empty: expected a WAV file",
        str(tmp_path / "song.wav"): "song.wav is no WAV file that can be read",
        file(TONE[:799], name="click.wav"): "click.wav is too short: expected at least 0.1 seconds. It has 0.0999",
        file(TONE[:100], name="click2.wav"): "click2.wav is too short: expected at least 0.1 seconds. It has 0.0125",
    }
    for path, message in cases.items():
        with pytest.raises(UserError, match=message) as caught:
            read_recording(path)
        assert "\n" not in str(caught.value)
    assert read_recording(file(TONE[:800], name="just.wav"))["length"].tolist() == [800]


def test_a_table():
    columns = {
        "confidence": np.array([1.0, 0.504], np.float32),
        "digit": np.array([b"7", b"0"]),
        "end": np.array([1.28, 12.0]),
        "number": np.array([3, 4]),
        "start": np.array([0.125, 10.5]),
    }
    assert table(columns).splitlines() == [
        "digit     start       end  confidence    number",
        "7        0.12 s    1.28 s       100 %         3",
        "0       10.50 s   12.00 s        50 %         4",
    ]


def test_a_table_of_nothing():
    columns = {"start": np.zeros(0), "digit": np.zeros(0, object)}
    assert re.fullmatch(r"digit +start", table(columns))
