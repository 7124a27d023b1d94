"""MLflow's pages for a search, in a real browser."""

import json
import shutil
import subprocess
from urllib.parse import quote

import matplotlib.pyplot as plt
import mlflow
import numpy as np
import pytest

from keras_dl.tracking.runs import connect, open_run

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(BROWSER is None, reason="needs chromium")]
MAGENTA = (255, 0, 255)


@pytest.fixture
def search(project):
    """The run of a search with three trials, of which the second is the best and the third failed."""
    connect(project, "digits")
    tags = {"kind": "search", "objective": "val_error", "direction": "min"}
    with open_run(project, "search-random", tags) as search:
        for number, best in enumerate((0.3125, 0.0625)):
            with open_run(project, f"trial-{number + 1}", {"kind": "trial"}):
                mlflow.log_params({"units": 11 + number, "rate": 0.125})
                for step in range(3):
                    mlflow.log_metric("val_error", best * (3 - step), step)
                mlflow.log_metric("best_val_error", best)
        with pytest.raises(ValueError, match="diverged"), open_run(project, "trial-3", {"kind": "trial"}):
            raise ValueError("diverged")
        mlflow.log_metrics({"best_val_error": 0.0625, "test_error": 0.09375})
        figure = plt.figure(facecolor="magenta")
        mlflow.log_figure(figure, "search.png", save_kwargs={"facecolor": "magenta"})
        plt.close(figure)
    return search.info


def look(folder, url):
    """Returns the HTML of a loaded page and its pixels `[height, width, 3]`."""
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--window-size=2100,900", "--timeout=40000"]
    options += ["--virtual-time-budget=90000", f"--user-data-dir={folder / 'profile'}"]
    picture = folder / "page.png"
    command = [BROWSER, *options, f"--screenshot={picture}", url]
    subprocess.run(command, check=True, capture_output=True, timeout=180)
    text = subprocess.run([BROWSER, *options, "--dump-dom", url], check=True, capture_output=True, timeout=180).stdout
    pixels = plt.imread(picture)[..., :3]
    return text.decode(), np.round(pixels * 255).astype(int)


def test_the_pages_of_a_search(project, search, start_ui, tmp_path):
    with start_ui(project, "digits") as (url, lines, _):
        text, _ = look(tmp_path, lines[1].split()[1])
        # Rows are sorted best first; columns are the hyperparameters, objective and test metrics.
        places = [text.index(f">{name}<") for name in ("trial-2", "trial-1", "trial-3")]
        assert places == sorted(places), "the best trial is not first"
        for word in ("best_val_error", "units", "rate", "test_error", "0.0625", "0.3125", "0.09375"):
            assert word in text, word
        assert "does not exist" not in text  # the view exists

        runs = mlflow.search_runs([search.experiment_id], "tags.kind = 'trial'", output_format="list")
        ids = [run.info.run_id for run in runs if run.info.status == "FINISHED"]
        query = f"runs={quote(json.dumps(ids))}&experiments={quote(json.dumps([search.experiment_id]))}"
        text, _ = look(tmp_path, f"{url}/#/compare-runs?{query}")
        assert "Comparing 2 Runs" in text and all(word in text for word in ("units", "11", "12", "val_error"))

        where = f"#/experiments/{search.experiment_id}/runs/{search.run_id}/artifacts/search.png"
        _, pixels = look(tmp_path, f"{url}/{where}")
        assert (pixels == MAGENTA).all(axis=-1).sum() > 50_000, "the picture is not visible"
