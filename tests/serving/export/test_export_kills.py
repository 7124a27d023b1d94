"""Kills real exports at random moments: incomplete versions are never visible, and old ones are never lost."""

import multiprocessing
import random
import time

import keras
import numpy as np
import pytest

from keras_dl.serving.export.check import check
from keras_dl.serving.export.export import export

from .parts import level

KILLS = 50
REQUEST = {"": np.ones((1, 4, 2), "float32")}


def build():
    signal = keras.Input((None, 2), name="signal")
    return keras.Model(signal, keras.layers.Dense(1, name="level")(keras.layers.Dense(200)(signal)))


def export_repeatedly(root, first, events):
    """Runs in a child process: exports versions from `first` on and reports the start and the end of each."""
    model = build()
    for version in range(first, first + 1000):
        events.send(("start", version))
        export(level(), model, root, version, REQUEST)
        events.send(("end", version))


def content(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_kills_at_random_moments(tmp_path, capsys):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["keras_dl.serving.export.export"])
    draw, finished, seconds, interrupted = random.Random(0), {}, None, 0
    for _ in range(KILLS):
        events, child_end = context.Pipe(duplex=False)
        first = max(finished, default=0) + 1
        process = context.Process(target=export_repeatedly, args=(tmp_path, first, child_end))
        process.start()
        child_end.close()
        # The first export waits until its process has started; the second one is killed.
        assert [events.recv() for _ in range(3)] == [("start", first), ("end", first), ("start", first + 1)]
        started = time.monotonic()
        if seconds is None:
            assert events.recv() == ("end", first + 1)
            seconds = time.monotonic() - started
        else:
            time.sleep(draw.uniform(0, 1.2 * seconds))
        process.kill()
        process.join(30)
        versions = {int(path.name): content(path) for path in (tmp_path / "level").iterdir() if path.name.isdigit()}
        interrupted += bool(list((tmp_path / "level").glob(".tmp-export-*")))
        assert first in versions
        assert finished.items() <= versions.items()
        for version in versions.keys() - finished.keys():
            assert check(tmp_path / "level" / str(version)), capsys.readouterr().out
        finished = versions
    assert interrupted > KILLS / 10, "too few exports were killed while they wrote"
    last = export(level(), build(), tmp_path, max(finished) + 1, REQUEST)
    assert check(last)
    assert not list((tmp_path / "level").glob(".tmp-*"))
