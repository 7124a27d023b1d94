"""The options of a search: invalid options raise an error, and changes are named."""

import keras_tuner as kt
import pytest

from keras_dl.errors import UserError
from keras_dl.tuning.plan import CHANGEABLE, Plan, changes, seconds, unfinished

from .halves import write_pipeline
from .scored import space


@pytest.mark.parametrize(
    "options, message",
    [
        ({"tuner": "annealing"}, "tuner must be one of random, bayesian, hyperband, grid. Received: 'annealing'"),
        ({"early_stop": "mean"}, "early_stop must be one of None, median, halving. Received: 'mean'"),
        ({"trials": 0}, "trials must be at least 1. Received: 0"),
        ({"executions": 0}, "executions must be at least 1. Received: 0"),
        ({"keep": 0}, "keep must be at least 1. Received: 0"),
        ({"workers": -1}, "workers must be at least 0. Received: -1"),
        ({"chief": "nowhere"}, "HOST:PORT"),
        ({"tuner": "hyperband", "executions": 2}, "hyperband resumes single training runs"),
    ],
)
def test_invalid_options_raise_an_error(options, message):
    with pytest.raises(UserError, match=message):
        Plan(**options)


@pytest.mark.parametrize(
    "text, expected", [("90", 90), ("90s", 90), (" 15m ", 900), ("1.5h", 5400), ("0.5s", 0.5), ("2 h", 7200)]
)
def test_times_are_parsed(text, expected):
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "h", "0", "0s", "-5m", "1h30m", "ten", "5d", "1e3", "1.", "nan"])
def test_an_invalid_time_raises_an_error(text):
    with pytest.raises(UserError, match="expected a time such as 90s, 15m or 1.5h. Received: "):
        seconds(text)


def test_a_grid_with_more_trials_than_combinations_raises_an_error():
    found = space(kt.HyperParameters(), continuous=False)
    with pytest.raises(UserError, match="the grid has 6 combinations; expected --trials of .* Received: 7"):
        Plan(tuner="grid", trials=7).check_trials(found)
    assert Plan(tuner="grid", trials=6).check_trials(found) == Plan(tuner="grid").check_trials(found) == 6
    assert Plan(trials=7).check_trials(found) is None  # only a grid never repeats a combination


@pytest.mark.parametrize("tuner", ["random", "bayesian", "hyperband", "grid"])
def test_a_space_with_nothing_to_search_raises_an_error(tuner):
    hp = kt.HyperParameters()
    hp.Fixed("units", 4)
    with pytest.raises(UserError, match="nothing to search"):
        Plan(tuner=tuner).check_trials(hp)


def test_the_arguments_identify_a_search(tmp_path):
    pipeline = write_pipeline(tmp_path)
    hp = kt.HyperParameters()
    pipeline.data(hp)
    plan = Plan(tuner="grid", pins={"units": 3}, trials=2, workers=2, fresh=True, resume=True, keep=3, chief="a:1")
    arguments = plan.arguments(pipeline, 2, hp.space)
    # Where the trials run and what happens to the model afterwards do not matter.
    assert set(arguments) == {
        "tuner", "pins", "executions", "early_stop", "max_time", "trials", "epochs", "seed", "objective", "direction",
        "precision", "strategy", "jit", "deterministic", "data", "space", "pipeline",
    }  # fmt: skip
    assert set(CHANGEABLE) < set(arguments)
    assert arguments["space"] == ["batch_size one of 32, 64 (default 64)"]
    assert arguments["pipeline"] == pipeline.digest and (arguments["tuner"], arguments["trials"]) == ("grid", 2)


def test_changes_are_named():
    space_before = ["a from 1 to 2", "b from 1 to 3"]
    before = {"tuner": "grid", "trials": 3, "max_time": None, "space": space_before, "pipeline": "0f"}
    assert changes(before, dict(before)) == {}
    now = {"tuner": "grid", "trials": 5, "max_time": 60.0, "space": ["a from 1 to 2", "b from 1 to 9"], "pipeline": "1"}
    assert changes(before, now) == {
        "trials": "trials was 3 and is 5",
        "max_time": "max_time was None and is 60.0",
        "space": "space had b from 1 to 3 and has b from 1 to 9",
        "pipeline": "the pipeline's file has changed",
    }
    assert changes({"space": ["a"]}, {"space": ["a", "b"]}) == {"space": "space had nothing else and has b"}
    assert changes({}, {"jit": "auto"}) == {"jit": "jit was None and is 'auto'"}


@pytest.mark.parametrize("text", ["{", "[]", "{}"])
def test_an_unreadable_record_raises_an_error_with_a_remedy(tmp_path, text):
    (tmp_path / "search.json").write_text(text)
    with pytest.raises(UserError, match="search.json cannot be read .*--fresh"):
        unfinished(tmp_path, {}, resume=False)
