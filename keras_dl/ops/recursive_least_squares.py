"""Recursive least squares: a linear readout that learns with every step."""

from keras import ops


def recursive_least_squares(kernel, covariance, features, targets, forgetting=1.0):
    """One step of recursive least squares for one or several rows at once.

        e = y - z W,   g = P z' / (forgetting + z P z'),   W = W + g e,   P = (P - g z P) / forgetting

    From W = 0 and P = I / alpha, with forgetting 1, the kernel after any number of rows is that of ridge regression
    with that alpha. Several rows are taken as simultaneous, which gives what one after the other gives.

    Args:
        kernel: float tensor `[F, K]`, W.
        covariance: float tensor `[F, F]`, P.
        features: float tensor `[B, F]`, z. A row of zeros has no effect.
        targets: float tensor `[B, K]`, y.
        forgetting: float above 0, to 1 (default); the weight of what is n steps old is forgetting to the power n.

    Returns:
        `(kernel, covariance)`.

    Example:

    >>> import numpy as np
    >>> kernel, covariance = np.zeros((1, 1)), np.eye(1) / 0.5   # alpha 0.5
    >>> kernel, covariance = recursive_least_squares(kernel, covariance, np.array([[1.0]]), np.array([[3.0]]))
    >>> float(kernel[0, 0])                                      # 3 / (1 + 0.5)
    2.0

    Reference: Haykin 2002, "Adaptive filter theory", section 9.3.
    """
    errors = targets - ops.matmul(features, kernel)
    spread = ops.matmul(covariance, ops.transpose(features))  # P z', [F, B]
    inner = ops.matmul(features, spread)
    rows = features.shape[0]
    if rows == 1:
        gain = spread / (forgetting + inner)
    else:
        inner += forgetting * ops.eye(ops.shape(inner)[0], dtype=inner.dtype)
        lower = ops.cholesky(inner)
        half = ops.solve_triangular(lower, ops.transpose(spread), lower=True)
        gain = ops.transpose(ops.solve_triangular(ops.transpose(lower), half))
    covariance = (covariance - ops.matmul(gain, ops.transpose(spread))) / forgetting
    return kernel + ops.matmul(gain, errors), covariance
