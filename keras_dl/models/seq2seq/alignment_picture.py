"""Where a decoder looked while it wrote."""

import matplotlib.pyplot as plt
import numpy as np


def alignment_picture(examples, columns=2):
    """Heat maps of alignments: each symbol that was written in a row, the symbols of the source in columns.

    Args:
        examples: list of `(title, source, written, alignment)`: str, lists of S and T str, float array `[T, S]` or
            more of both, of which the first are shown.
        columns: int, heat maps side by side. Defaults to 2.

    Returns:
        A matplotlib figure.

    Example:

    >>> figure = alignment_picture([("zwei = two", list("zwei"), list("two"), np.eye(3, 4))])
    >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
    ['t', 'w', 'o']
    """
    columns = min(columns, len(examples))
    rows = -(-len(examples) // columns)
    longest = max(len(written) for _, _, written, _ in examples)
    size = (6.5 * columns, rows * max(2.0, 0.16 * longest + 1))
    figure, axes = plt.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False)
    for axis in axes.flat[len(examples) :]:
        axis.set_axis_off()
    for axis, (title, source, written, alignment) in zip(axes.flat, examples, strict=False):
        axis.imshow(np.asarray(alignment)[: len(written), : len(source)], cmap="Greens", vmin=0, vmax=1, aspect="auto")
        upright = max(map(len, source), default=0) < 2
        axis.set_xticks(range(len(source)), source, fontsize=8, rotation=0 if upright else 90)
        axis.set_yticks(range(len(written)), written, fontsize=8)
        axis.xaxis.tick_top()
        axis.tick_params(length=0)
        axis.set_title(title, fontsize=10)
    return figure
