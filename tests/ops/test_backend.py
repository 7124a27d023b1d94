"""Everything that requires TensorFlow raises an error on other backends when it is created."""

import keras
import pytest

from keras_dl import layers, losses, metrics
from keras_dl.models import forecaster, free_run, seq2seq, train_forecaster

MAKERS = {
    "CTCLoss": losses.CTCLoss,
    "CTCOutput.decode": lambda: layers.CTCOutput(2).decode([[[0.0, 1.0, 2.0]]]),
    "CTCOutput.text": lambda: layers.CTCOutput(2).text([[1]]),
    "LabelErrorRate": metrics.LabelErrorRate,
    "Seq2Seq": lambda: seq2seq.Seq2Seq(None, None, None, None),
    "SequenceAccuracy": metrics.SequenceAccuracy,
    "SubwordTokenizer": lambda: layers.SubwordTokenizer(["a"], [-1.0]),
    "Tokenizer": lambda: layers.Tokenizer(["a"]),
    "WordErrorRate": lambda: metrics.WordErrorRate([" ", "a"]),
    "free_run": lambda: free_run(None, None, 1),
    "train_forecaster": lambda: train_forecaster(None),
}


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_another_backend_is_refused_by_name(name, backend, monkeypatch):
    forecaster(1)
    monkeypatch.setattr(keras.backend, "backend", lambda: backend)
    expected = f"{name} requires the TensorFlow backend: set KERAS_BACKEND=tensorflow .* Received: backend '{backend}'"
    with pytest.raises(ValueError, match=expected):
        MAKERS[name]()
