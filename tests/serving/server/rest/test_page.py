"""The routes of the page: files, headers, and the description of the models."""

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
    """The URL of a server of a model with a manifest and labels, a broken and a missing one."""
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
    """The versions in /page/models.json, by model."""
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
def test_files_forbid_other_origins(url, path, media_type, beginning):
    response = requests.get(url + path, timeout=30)
    assert response.status_code == 200 and response.text.startswith(beginning)
    assert response.headers["Content-Type"] == media_type
    policy = response.headers["Content-Security-Policy"].split("; ")
    assert policy[0] == "default-src 'self'" and "frame-ancestors 'none'" in policy
    assert not any("unsafe" in part or "http" in part for part in policy)
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["X-Frame-Options"] == "DENY"


def test_the_page_has_no_inline_code_and_no_other_hosts(url):
    for name in ("index.html", "page.js", "pad.js", "fields.js", "answers.js", "plots.js", "sound.js", "data.js"):
        text = requests.get(f"{url}/page/{name}", timeout=30).text.replace("http://www.w3.org/2000/svg", "")
        for forbidden in ("://", "innerHTML", "insertAdjacentHTML", "document.write", "eval(", "onclick=", "style="):
            assert forbidden not in text, (name, forbidden)


@pytest.mark.parametrize(
    "path",
    ["/page/page.py", "/page/", "/page/..%2Fpage.py", "/page/%2e%2e/app.py", "/page/../app.py", "/page/x/style.css"],
)
def test_file_names_are_never_used_as_paths(url, path):
    request = requests.Request("GET", url).prepare()
    request.url = url + path
    with requests.Session() as session:
        response = session.send(request, timeout=30)
    assert response.status_code == 404 and list(response.json()) == ["error"]


def test_unchanged_content_is_not_sent_again(url):
    first = requests.get(f"{url}/page/models.json", timeout=30)
    tag = {"If-None-Match": first.headers["ETag"]}
    again = requests.get(f"{url}/page/models.json", headers=tag, timeout=30)
    assert (again.status_code, again.content) == (304, b"")
    assert requests.get(f"{url}/page/style.css", headers=tag, timeout=30).status_code == 200


def test_versions_have_states_and_labels_newest_first(models):
    assert set(models) == {STRANGE, "broken", "absent"}
    versions = [(version["version"], version["state"], version["labels"]) for version in models[STRANGE]]
    assert versions == [("10", "AVAILABLE", []), ("2", "AVAILABLE", ["champion"])]
    assert models["absent"] == []


def test_a_broken_version_has_a_message_without_paths(models, tmp_path_factory):
    (version,) = models["broken"]
    assert version["state"] == "END" and version["error"] and "signatures" not in version
    assert str(tmp_path_factory.getbasetemp()) not in version["error"]


def test_signatures_have_names_dtypes_and_shapes(models):
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


def test_the_manifest_is_optional(models):
    described, foreign = models[STRANGE]
    assert described["origin"] == {"metric": "loss", "value": 0.5}
    assert described["exported"] == "2026-01-02T03:04:05+00:00" and described["git_commit"] == "abc"
    assert described["request"]["length"] == [1] and str(described["request"]["features"]) == "[[[1, nan]]]"
    assert [foreign[key] for key in ("request", "origin", "exported", "git_commit")] == [None] * 4


def test_methods_of_signatures(url):
    described = requests.get(f"{url}/page/models.json", timeout=30).json()
    methods = {
        (model["name"], name): signature["method"]
        for model in described
        for name, signature in model["versions"][0]["signatures"].items()
    }
    assert methods["hp2", "serving_default"] == "predict"
    assert not any(name.startswith("__") for _, name in methods)  # initialization signatures are omitted
    assert {"classify", "regress"} <= set(methods.values())
