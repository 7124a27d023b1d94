"""`check_registry` reports a registry that would reject a model and changes nothing in one that would not."""

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
def test_a_writable_registry_is_not_changed(project, known):
    connect(project, "digits")
    if known:
        mlflow.MlflowClient().create_registered_model("digits")
        mlflow.MlflowClient().create_model_version("digits", "nowhere")
    before = content(project)
    check_registry("digits")
    assert content(project) == before


@pytest.mark.parametrize("name", ["", " ", ".", "..", "a/b", "a:b"])
def test_an_invalid_name_is_rejected(project, name):
    connect(project)
    with pytest.raises(UserError, match="must not be empty or contain '/' or ':'. Received: '"):
        check_registry(name)


@pytest.fixture
def read_only(project):
    """Settings of a project whose store is read-only, because of its permissions and because the user is not root."""
    with tempfile.TemporaryDirectory() as folder:  # pytest's folders are accessible only to its user
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


def test_a_read_only_store_is_reported(read_only):
    with pytest.raises(UserError, match=r"register digits in .*mlflow\.db: attempt to write a readonly database"):
        check_registry("digits")


def test_a_store_without_registry_tables_is_reported(project):
    connect(project)
    with contextlib.closing(sqlite3.connect(project.root / "mlflow.db")) as store:
        store.execute("DROP TABLE model_versions")
    with pytest.raises(UserError, match="cannot register digits in .*: no such table: model_versions"):
        check_registry("digits")


def test_the_password_is_hidden(project, monkeypatch):
    monkeypatch.setattr(mlflow, "get_registry_uri", lambda: "mysql+nothing://me:secret@tracker/db")
    with pytest.raises(UserError) as caught:
        check_registry("digits")
    assert "me:***@tracker" in str(caught.value) and "secret" not in str(caught.value)


# ---------------------------------------------------------------------------- servers


@contextlib.contextmanager
def server(answers):
    """A tracking server with fixed answers, `{end of path: (status, content)}`; yields its URL and the requests."""
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
            check_registry("digits")
        finally:
            mlflow.set_tracking_uri(None)
        return asked


def test_a_writable_server_is_not_changed(project):
    assert ask({"registered-models/create": BAD_NAME, "registered-models/search": NO_MODELS}) == [
        "POST registered-models/create", "GET registered-models/search"
    ]  # fmt: skip


def test_a_server_that_denies_creating_models_is_reported(project):
    with pytest.raises(UserError, match=r"digits in the model registry http://127\.0\.0\.1:\d+: .*[Pp]ermission"):
        ask({"registered-models/create": DENIED})


def test_a_proxy_that_denies_access_is_reported(project):
    with pytest.raises(UserError, match="cannot register digits in .*: .*403"):
        ask({"registered-models/create": (403, b"<html>Forbidden</html>")})


def test_a_server_that_denies_writing_to_this_model_is_reported(project):
    answers = {"registered-models/create": BAD_NAME, "registered-models/search": DIGITS}
    answers["registered-models/get"] = 200, {"registered_model": {"name": "digits"}}
    with pytest.raises(UserError, match="cannot register digits in .*: .*[Pp]ermission"):
        ask({**answers, "registered-models/alias": DENIED})
    assert ask({**answers, "registered-models/alias": (200, {})})[-1] == "DELETE registered-models/alias"


@pytest.mark.slow
def test_a_real_server_is_not_changed(project, start_ui):
    with start_ui(project) as (url, _, _):
        mlflow.set_tracking_uri(url)
        mlflow.MlflowClient().create_registered_model("digits")
        before = content(project)
        for name in ("digits", "speech"):
            check_registry(name)
        assert content(project) == before
