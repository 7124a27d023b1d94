"""Heat maps of attention alignments."""

import matplotlib.pyplot as plt
import numpy as np


def alignment_picture(examples, columns=2):
    """Plots alignments as heat maps: output symbols as rows, source symbols as columns.

    Args:
        examples: list of `(title, source, output, alignment)`: str, list of S str, list of T str, float array
            `[T, S]`. A larger array is cropped.
        columns: int, heat maps per row of the figure. Defaults to 2.

    Returns:
        A matplotlib figure.

    Example:

    >>> figure = alignment_picture([("zwei = two", list("zwei"), list("two"), np.eye(3, 4))])
    >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
    ['t', 'w', 'o']
    """
    columns = min(columns, len(examples))
    rows = -(-len(examples) // columns)
    longest = max(len(output) for _, _, output, _ in examples)
    size = (6.5 * columns, rows * max(2.0, 0.16 * longest + 1))
    figure, axes = plt.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False)
    for axis in axes.flat[len(examples) :]:
        axis.set_axis_off()
    for axis, (title, source, output, alignment) in zip(axes.flat, examples, strict=False):
        axis.imshow(np.asarray(alignment)[: len(output), : len(source)], cmap="Greens", vmin=0, vmax=1, aspect="auto")
        upright = max(map(len, source), default=0) < 2
        axis.set_xticks(range(len(source)), source, fontsize=8, rotation=0 if upright else 90)
        axis.set_yticks(range(len(output)), output, fontsize=8)
        axis.xaxis.tick_top()
        axis.tick_params(length=0)
        axis.set_title(title, fontsize=10)
    return figure
