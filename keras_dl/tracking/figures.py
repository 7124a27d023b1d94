"""Figures of a run: logging them, and the learning curves."""

import matplotlib.pyplot as plt
import mlflow
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from keras_dl.errors import UserError
from keras_dl.tracking.names import mlflow_names


def log_pictures(pictures: dict) -> None:
    """Logs matplotlib figures as `<name>.png`, and texts as `<name>.txt`, to the active run."""
    if not isinstance(pictures, dict) or not all(isinstance(each, Figure | str) for each in pictures.values()):
        raise UserError(f"pictures(model, splits) must return {{name: figure or text}}. Received: {pictures!r:.200}")
    names = mlflow_names(pictures)
    for name, picture in pictures.items():
        if isinstance(picture, str):
            mlflow.log_text(picture, f"{names[name]}.txt")
        else:
            mlflow.log_figure(picture, f"{names[name]}.png")
            plt.close(picture)


def learning_curves(curves: dict[str, list[float]], objective: str):
    """Returns a figure of an objective over the epochs, with one line per training run: `{name: values}`, one per
    epoch.
    """
    figure, axis = plt.subplots(figsize=(7, 4), layout="constrained")
    for name, values in curves.items():
        axis.plot(range(1, len(values) + 1), values, marker="o", markersize=3, label=name)
    axis.set(xlabel="epoch", ylabel=objective)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    if min((min(values) for values in curves.values() if values), default=0) > 0:
        axis.set_yscale("log")
    axis.grid(alpha=0.3)
    if len(curves) > 1:
        axis.legend(fontsize=8, ncols=2)
    return figure
