"""A registry that would not take a model says so before there is one, and one that would is left as it was."""

import contextlib
import http.server
import json
import os
import shutil
import sqlite3
import tempfile
import threading
from pathlib import Path

import mlflow
import pytest

from keras_dl.errors import UserError
from keras_dl.release.permissions import check_registry
from keras_dl.tracking.runs import connect
from keras_dl.tracking.settings import Settings


def content(settings):
    with contextlib.closing(sqlite3.connect(settings.root / "mlflow.db")) as store:
        return list(store.iterdump())


@pytest.mark.parametrize("known", [False, True])
def test_a_registry_that_takes_it_is_left_as_it_was(project, known):
    connect(project, "digits")
    if known:
        mlflow.MlflowClient().create_registered_model("digits")
        mlflow.MlflowClient().create_model_version("digits", "nowhere")
    before = content(project)
    check_registry(project, "digits")
    assert content(project) == before


@pytest.mark.parametrize("name", ["", " ", ".", "..", "a/b", "a:b"])
def test_a_name_that_no_registry_has_is_refused(project, name):
    connect(project)
    with pytest.raises(UserError, match="a name without '/' and ':'. Received: '"):
        check_registry(project, name)


@pytest.fixture
def read_only(project):
    """Settings of a project whose store may be read only: by its rights, and by us being nobody in particular."""
    with tempfile.TemporaryDirectory() as folder:  # pytest's own folders are for its user alone
        os.chmod(folder, 0o755)
        shutil.copy(project.root / "mlflow.db", folder)
        os.chmod(Path(folder, "mlflow.db"), 0o444)
        mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
        mlflow.search_experiments()
        is_root = os.geteuid() == 0
        if is_root:
            os.seteuid(65534)
        try:
            yield Settings(root=folder)
        finally:
            if is_root:
                os.seteuid(0)


def test_a_store_that_may_only_be_read_is_told(read_only):
    with pytest.raises(UserError, match=r"mlflow\.db would not take digits: attempt to write a readonly database"):
        check_registry(read_only, "digits")


def test_a_store_without_a_registry_is_told(project):
    connect(project)
    with contextlib.closing(sqlite3.connect(project.root / "mlflow.db")) as store:
        store.execute("DROP TABLE model_versions")
    with pytest.raises(UserError, match="would not take digits: no such table: model_versions"):
        check_registry(project, "digits")


def test_a_password_is_not_repeated(project, monkeypatch):
    monkeypatch.setattr(mlflow, "get_registry_uri", lambda: "mysql+nothing://me:secret@tracker/db")
    with pytest.raises(UserError) as caught:
        check_registry(project, "digits")
    assert "me:***@tracker" in str(caught.value) and "secret" not in str(caught.value)


# ---------------------------------------------------------------------------- servers


@contextlib.contextmanager
def server(answers):
    """A tracking server of fixed answers, `{end of a path: (status, content)}`; gives its URL and what it was asked."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self):
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            path = self.path.partition("?")[0]
            asked.append(f"{self.command} {path.rpartition('mlflow/')[2]}")
            status, content = next(
                (answer for end, answer in answers.items() if path.endswith(end)), (404, {"error_code": "NOT_FOUND"})
            )
            body = json.dumps(content).encode() if isinstance(content, dict) else content
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_DELETE = answer

        def log_message(self, *_):
            pass

    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=running.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{running.server_port}", asked
    finally:
        running.shutdown()
        running.server_close()
        thread.join()


BAD_NAME = 400, {"error_code": "INVALID_PARAMETER_VALUE", "message": "Invalid model name '/'."}
DENIED = 403, {"error_code": "PERMISSION_DENIED", "message": "Permission denied"}
NO_MODELS = 200, {"registered_models": []}
DIGITS = 200, {"registered_models": [{"name": "digits"}]}


def ask(answers):
    with server(answers) as (url, asked):
        mlflow.set_tracking_uri(url)
        try:
            check_registry(Settings(tracking={"uri": url}), "digits")
        finally:
            mlflow.set_tracking_uri(None)
        return asked


def test_a_server_that_takes_it_is_asked_for_nothing_that_stays(project):
    assert ask({"registered-models/create": BAD_NAME, "registered-models/search": NO_MODELS}) == [
        "POST registered-models/create", "GET registered-models/search"
    ]  # fmt: skip


def test_a_server_that_refuses_to_make_models_is_told(project):
    with pytest.raises(UserError, match=r"registry http://127\.0\.0\.1:\d+ would not take digits: .*[Pp]ermission"):
        ask({"registered-models/create": DENIED})


def test_a_proxy_in_front_that_refuses_is_told(project):
    with pytest.raises(UserError, match="would not take digits: .*403"):
        ask({"registered-models/create": (403, b"<html>Forbidden</html>")})


def test_a_server_that_lets_others_alone_write_to_this_model_is_told(project):
    refused = {"registered-models/create": BAD_NAME, "registered-models/search": DIGITS}
    refused["registered-models/get"] = 200, {"registered_model": {"name": "digits"}}
    with pytest.raises(UserError, match="would not take digits: .*[Pp]ermission"):
        ask({**refused, "registered-models/alias": DENIED})
    assert ask({**refused, "registered-models/alias": (200, {})})[-1] == "DELETE registered-models/alias"


@pytest.mark.slow
def test_a_real_server_takes_it(project, start_ui):
    with start_ui(project) as (url, _, _):
        mlflow.set_tracking_uri(url)
        mlflow.MlflowClient().create_registered_model("digits")
        before = content(project)
        for name in ("digits", "speech"):
            check_registry(Settings(tracking={"uri": url}), name)
        assert content(project) == before
