"""kill -9 of real exports at random moments: never a loadable half version, never a lost old one."""

import multiprocessing
import random
import time

import keras
import numpy as np
import pytest

from keras_dl.pipeline import Pipeline
from keras_dl.serving.export.check import check
from keras_dl.serving.export.export import export

KILLS = 50
REQUEST = {"": np.ones((1, 4, 2), "float32")}


class Level(Pipeline):
    name = "level"


def build():
    signal = keras.Input((None, 2), name="signal")
    return keras.Model(signal, keras.layers.Dense(1, name="level")(keras.layers.Dense(200)(signal)))


def export_again_and_again(root, first, news):
    """In a process of its own: versions from `first` on; says when each begins and ends."""
    model = build()
    for version in range(first, first + 1000):
        news.send(("begins", version))
        export(Level(), model, root, version, REQUEST)
        news.send(("ends", version))


def content(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_kills_at_random_moments(tmp_path, capsys):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["keras_dl.serving.export.export"])
    draw, finished, seconds, half = random.Random(0), {}, None, 0
    for _ in range(KILLS):
        news, theirs = context.Pipe(duplex=False)
        first = max(finished, default=0) + 1
        process = context.Process(target=export_again_and_again, args=(tmp_path, first, theirs))
        process.start()
        theirs.close()
        # One export whole, since it waits for a process to begin; then one that is killed somewhere in it.
        assert [news.recv(), news.recv(), news.recv()] == [("begins", first), ("ends", first), ("begins", first + 1)]
        began = time.monotonic()
        if seconds is None:
            assert news.recv() == ("ends", first + 1)
            seconds = time.monotonic() - began
        else:
            time.sleep(draw.uniform(0, 1.2 * seconds))
        process.kill()
        process.join(30)
        versions = {int(path.name): content(path) for path in (tmp_path / "level").iterdir() if path.name.isdigit()}
        half += bool(list((tmp_path / "level").glob(".tmp-export-*")))
        assert first in versions
        assert finished.items() <= versions.items()
        for version in versions.keys() - finished.keys():
            assert check(tmp_path / "level" / str(version)), capsys.readouterr().out
        finished = versions
    assert half > KILLS / 10, "hardly any export was killed while it wrote: the moments are badly chosen"
    last = export(Level(), build(), tmp_path, max(finished) + 1, REQUEST)
    assert check(last)
    assert not list((tmp_path / "level").glob(".tmp-*"))
