"""The page's routes over the wire: its files, its headers, and what it is told about the models."""

import json

import pytest
import requests

from keras_dl.serving.server.config import ModelConfig, VersionPolicy
from keras_dl.serving.server.inference import Inference
from keras_dl.serving.server.metrics import Metrics
from keras_dl.serving.server.rest.app import create_app
from keras_dl.serving.server.store import ModelStore

STRANGE = "<b>bold</b> & ünknown"


@pytest.fixture(scope="module")
def described(tmp_path_factory, save_model, running):
    """The URL of a server of a model with a manifest and labels, one that is broken, and one that is not there."""
    root = tmp_path_factory.mktemp("described")
    for version in (2, 10):
        save_model(root / "strange" / str(version), "sequences")
    manifest = {
        "format": 1,
        "request": {"features": [[[1, float("nan")]]], "length": [1]},
        "origin": {"metric": "loss", "value": 0.5},
        "exported": "2026-01-02T03:04:05+00:00",
        "git_commit": "abc",
    }
    extra = root / "strange" / "10" / "assets.extra"
    extra.mkdir()
    (extra / "manifest.json").write_text(json.dumps(manifest))
    (root / "broken" / "1").mkdir(parents=True)
    (root / "broken" / "1" / "saved_model.pb").write_bytes(b"no model")
    configs = [
        ModelConfig(STRANGE, root / "strange", policy=VersionPolicy(), labels={"champion": 2}),
        ModelConfig("broken", root / "broken"),
        ModelConfig("absent", root / "absent"),
    ]
    with ModelStore(configs) as store:
        assert store.polled.wait(60)
        inference = Inference(store, Metrics())
        with running(create_app(inference)) as url:
            yield url
        inference.close(10)


@pytest.fixture(scope="module")
def models(described):
    """What the page is told, by name."""
    response = requests.get(f"{described}/page/models.json", timeout=30)
    assert response.status_code == 200 and response.headers["Content-Type"] == "application/json"
    return {model["name"]: model["versions"] for model in response.json()}


@pytest.mark.parametrize(
    "path, media_type, beginning",
    [
        ("/", "text/html; charset=utf-8", "<!doctype html>"),
        ("/page/index.html", "text/html; charset=utf-8", "<!doctype html>"),
        ("/page/style.css", "text/css; charset=utf-8", ":root"),
        ("/page/page.js", "text/javascript; charset=utf-8", "// "),
        ("/page/icon.svg", "image/svg+xml", "<svg"),
        ("/page/models.json", "application/json", "["),
    ],
)
def test_files_forbid_what_is_not_theirs(url, path, media_type, beginning):
    response = requests.get(url + path, timeout=30)
    assert response.status_code == 200 and response.text.startswith(beginning)
    assert response.headers["Content-Type"] == media_type
    policy = response.headers["Content-Security-Policy"].split("; ")
    assert policy[0] == "default-src 'self'" and "frame-ancestors 'none'" in policy
    assert not any("unsafe" in part or "http" in part for part in policy)
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["X-Frame-Options"] == "DENY"


def test_the_page_runs_nothing_inline_and_names_no_other_host(url):
    for name in ("index.html", "page.js", "pad.js", "fields.js", "answers.js", "plots.js", "sound.js", "data.js"):
        text = requests.get(f"{url}/page/{name}", timeout=30).text.replace("http://www.w3.org/2000/svg", "")
        for forbidden in ("://", "innerHTML", "insertAdjacentHTML", "document.write", "eval(", "onclick=", "style="):
            assert forbidden not in text, (name, forbidden)


@pytest.mark.parametrize(
    "path",
    ["/page/page.py", "/page/", "/page/..%2Fpage.py", "/page/%2e%2e/app.py", "/page/../app.py", "/page/x/style.css"],
)
def test_a_file_is_looked_up_and_never_joined_to_a_path(url, path):
    request = requests.Request("GET", url).prepare()
    request.url = url + path
    with requests.Session() as session:
        response = session.send(request, timeout=30)
    assert response.status_code == 404 and list(response.json()) == ["error"]


def test_what_has_not_changed_is_not_sent_again(url):
    first = requests.get(f"{url}/page/models.json", timeout=30)
    tag = {"If-None-Match": first.headers["ETag"]}
    again = requests.get(f"{url}/page/models.json", headers=tag, timeout=30)
    assert (again.status_code, again.content) == (304, b"")
    assert requests.get(f"{url}/page/style.css", headers=tag, timeout=30).status_code == 200


def test_versions_are_told_with_state_and_labels_the_newest_first(models):
    assert set(models) == {STRANGE, "broken", "absent"}
    told = [(version["version"], version["state"], version["labels"]) for version in models[STRANGE]]
    assert told == [("10", "AVAILABLE", []), ("2", "AVAILABLE", ["champion"])]
    assert models["absent"] == []


def test_a_broken_version_says_why_without_paths(models, tmp_path_factory):
    (version,) = models["broken"]
    assert version["state"] == "END" and version["error"] and "signatures" not in version
    assert str(tmp_path_factory.getbasetemp()) not in version["error"]


def test_signatures_are_told_as_names_dtypes_and_shapes(models):
    assert models[STRANGE][0]["signatures"] == {
        "serving_default": {
            "method": "predict",
            "inputs": {
                "features": {"dtype": "float32", "shape": [None, None, 2]},
                "length": {"dtype": "int64", "shape": [None]},
            },
            "outputs": {
                "is_empty": {"dtype": "bool", "shape": [None]},
                "total": {"dtype": "float32", "shape": [None, 2]},
            },
        }
    }


def test_the_manifest_is_told_and_may_be_missing(models):
    told, foreign = models[STRANGE]
    assert told["origin"] == {"metric": "loss", "value": 0.5}
    assert told["exported"] == "2026-01-02T03:04:05+00:00" and told["git_commit"] == "abc"
    assert told["request"]["length"] == [1] and str(told["request"]["features"]) == "[[[1, nan]]]"
    assert [foreign[key] for key in ("request", "origin", "exported", "git_commit")] == [None] * 4


def test_every_model_of_the_tests_is_told(url):
    told = requests.get(f"{url}/page/models.json", timeout=30).json()
    methods = {
        (model["name"], name): signature["method"]
        for model in told
        for name, signature in model["versions"][0]["signatures"].items()
    }
    assert methods["hp2", "serving_default"] == "predict"
    assert not any(name.startswith("__") for _, name in methods)  # what sets a model up is nothing to ask
    assert {"classify", "regress"} <= set(methods.values())
