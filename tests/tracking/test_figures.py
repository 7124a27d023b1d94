"""Figures of a run."""

import matplotlib.pyplot as plt

from keras_dl.tracking.figures import learning_curves


def test_learning_curves():
    figure = learning_curves({"0": [0.5, 0.25], "1": [1.0]}, "val_loss")
    (axis,) = figure.axes
    assert [(list(line.get_xdata()), list(line.get_ydata())) for line in axis.lines] == [
        ([1, 2], [0.5, 0.25]), ([1], [1.0])
    ]  # fmt: skip
    assert (axis.get_yscale(), axis.get_xlabel(), axis.get_ylabel()) == ("log", "epoch", "val_loss")
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["0", "1"]
    figure.canvas.draw()
    (axis,) = learning_curves({"": [0.5, 0.0]}, "val_error").axes
    assert axis.get_yscale() == "linear" and axis.get_legend() is None
    plt.close("all")
