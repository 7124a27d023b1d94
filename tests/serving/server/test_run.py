"""What the server says when it is ready, and how it follows its source."""

import threading

import pytest

from keras_dl.errors import UserError
from keras_dl.serving.server import run
from keras_dl.serving.server.config import ModelConfig
from keras_dl.serving.server.run import follow, ready_text
from keras_dl.serving.server.store import ModelStore


def test_ready_text_names_what_answers_and_what_is_missing(model_folders, tmp_path):
    configs = [ModelConfig("hp2", model_folders["hp2"]), ModelConfig("gone", tmp_path / "gone")]
    with ModelStore(configs) as store:
        assert store.polled.wait(60)
        first, curl, missing, page = ready_text(store, "http://127.0.0.1:8501", 8500).splitlines()
        assert first == "ready: http://127.0.0.1:8501/v1/models/hp2"
        assert curl.startswith("curl --data ") and curl.endswith("http://127.0.0.1:8501/v1/models/hp2:predict")
        assert missing == "gone is not available yet: a complete version of it is awaited"
        assert page == "page:  http://127.0.0.1:8501/   gRPC: 127.0.0.1:8500"
        assert ready_text(store, "http://[::1]:1", None).splitlines()[-1] == "page:  http://[::1]:1/"
    with ModelStore([configs[1]]) as store:
        assert store.polled.wait(60)
        assert ready_text(store, "http://h:1", None).startswith("ready: no model could be loaded\n")


@pytest.fixture
def following(monkeypatch):
    """following(answers): the configurations that a store is given while its source answers so, and what was logged."""

    def run_through(answers, refuse=()):
        reloaded, asked, stop = [], iter(answers), threading.Event()

        class Source:
            def read(self):
                answer = next(asked, None)
                if answer is None:
                    stop.set()
                    return answers[-1]
                if isinstance(answer, Exception):
                    raise answer
                return answer

        class Store:
            def reload(self, configs, labels_wait):
                reloaded.append(configs)
                if configs in refuse and reloaded.count(configs) == 1:
                    raise UserError("not yet")

        monkeypatch.setattr(run, "_FOLLOW_SECONDS", 0)
        follow(Source(), answers[0], Store(), stop)
        return reloaded

    return run_through


def test_only_a_changed_configuration_is_given_to_the_store(following):
    assert following([["a"], ["a"], ["a", "b"], ["a", "b"], ["b"]]) == [["a", "b"], ["b"]]


def test_what_is_refused_is_tried_again_and_what_cannot_be_read_changes_nothing(following, caplog):
    answers = [["a"], ["b"], UserError("no text"), UserError("no text"), ["b"], ["b"]]
    assert following(answers, refuse=[["b"]]) == [["b"], ["b"]]
    assert [record.getMessage() for record in caplog.records] == [
        "the configuration is tried again: not yet",
        "the configuration is tried again: no text",
    ]


def test_nothing_that_a_file_can_hold_ends_it(following):
    assert following([["a"], ValueError("embedded null byte"), RecursionError(), ["b"]]) == [["b"]]
