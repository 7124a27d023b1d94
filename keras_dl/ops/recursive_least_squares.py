"""Recursive least squares: a linear readout that is updated with every step."""

from keras import ops


def recursive_least_squares(kernel, covariance, features, targets, forgetting=1.0):
    """Computes one step of recursive least squares for one or several rows.

        e = y - z W,   g = P z' / (forgetting + z P z'),   W = W + g e,   P = (P - g z P) / forgetting

    Starting with W = 0 and P = I / alpha, and with forgetting 1, the kernel after any number of rows equals that of
    ridge regression with this alpha. Several rows are processed at once; updating row by row gives the same result.

    Args:
        kernel: float tensor `[F, K]`, W.
        covariance: float tensor `[F, F]`, P.
        features: float tensor `[B, F]`, z. A row of zeros has no effect.
        targets: float tensor `[B, K]`, y.
        forgetting: float above 0 and at most 1 (default); rows that are n steps old have the weight `forgetting ** n`.

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
        inner = inner + forgetting * ops.eye(ops.shape(inner)[0], dtype=inner.dtype)
        lower = ops.cholesky(inner)
        half = ops.solve_triangular(lower, ops.transpose(spread), lower=True)
        gain = ops.transpose(ops.solve_triangular(ops.transpose(lower), half))
    covariance = (covariance - ops.matmul(gain, ops.transpose(spread))) / forgetting
    return kernel + ops.matmul(gain, errors), covariance
