"""Ridge regression from streamed statistics."""

import numpy as np
from scipy import linalg
from scipy.linalg import lapack


class RidgeStatistics:
    """Accumulates the statistics of ridge regression: the number, means and centered products of the data.

    They are float64 for data of any dtype: with float32 products, a readout with small ridge diverges in closed loop.
    Parts are merged with Chan's update, so neither their order and sizes nor a large mean affects the result.

    Args:
        features: int, F.
        targets: int, K.

    Example:

    >>> statistics = RidgeStatistics(1, 1)
    >>> statistics.add(np.array([[0.0], [1.0]]), np.array([[1.0], [3.0]]))
    >>> statistics.add(np.array([[2.0]]), np.array([[5.0]]))
    >>> kernels, biases = statistics.solve([0.0, 2.0])           # y = 1 + 2 x; ridge halves the slope
    >>> kernels[:, 0, 0].round(6), biases[:, 0].round(6)
    (array([2., 1.]), array([1., 2.]))
    """

    def __init__(self, features, targets):
        self.count = 0.0
        self.feature_means, self.target_means = np.zeros(features), np.zeros(targets)
        self.gram = np.zeros((features, features))  # sum of z z', centered
        self.products = np.zeros((features, targets))  # sum of z y', centered
        self.target_squares = np.zeros(targets)  # sum of y^2, centered

    def add(self, features, targets, weights=None):
        """Adds rows: features `[n, F]`, targets `[n, K]`, weights `[n]` or None (default) for equal weights of 1."""
        features, targets = np.asarray(features, "float64"), np.asarray(targets, "float64")
        total = float(len(features) if weights is None else np.sum(weights))
        if total <= 0:
            return
        share = np.full(len(features), 1 / total) if weights is None else np.asarray(weights, "float64") / total
        means = share @ features, share @ targets
        features, targets = features - means[0], targets - means[1]
        if weights is not None:
            root = np.sqrt(share * total)[:, None]
            features, targets = features * root, targets * root
        part = RidgeStatistics(0, 0)
        part.count, (part.feature_means, part.target_means) = total, means
        part.gram, part.products = features.T @ features, features.T @ targets
        part.target_squares = np.square(targets).sum(axis=0)
        self.merge(part)

    def merge(self, other):
        """Adds all data of another `RidgeStatistics`."""
        if not other.count:
            return
        total = self.count + other.count
        features, targets = other.feature_means - self.feature_means, other.target_means - self.target_means
        scale = self.count * other.count / total
        self.gram += other.gram
        self.products += other.products
        self.target_squares += other.target_squares
        if scale:
            self.gram += scale * np.outer(features, features)
            self.products += scale * np.outer(features, targets)
            self.target_squares += scale * np.square(targets)
        self.feature_means = self.feature_means + features * (other.count / total)
        self.target_means = self.target_means + targets * (other.count / total)
        self.count = total

    def solve(self, alphas):
        """Minimizes `sum (y - z W - c)^2 + alpha sum W^2`; the intercept c is not penalized.

        All alphas share one reduction of the Gram matrix to tridiagonal form, after which each is cheap.

        Args:
            alphas: list of floats >= 0.

        Returns:
            `(kernels, biases)`, float64 `[A, F, K]` and `[A, K]`.

        Raises:
            ValueError: if there are no rows, or if an alpha is 0 and the Gram matrix is singular.
        """
        if not self.count:
            raise ValueError("Expected at least one row after washout and masks. Received: none")
        kernels = np.stack(_solve(self.gram, self.products, alphas))
        return kernels, self.target_means - self.feature_means @ kernels

    def mean_squared_error(self, kernel):
        """Returns the error over the rows seen, with the best intercept: kernel `[F, K]` -> float."""
        explained = 2 * (kernel * self.products).sum() - (kernel * (self.gram @ kernel)).sum()
        return float(np.maximum(0.0, self.target_squares.sum() - explained)) / (self.count * len(self.target_squares))


def _solve(gram, products, alphas):
    """Returns `(gram + alpha I)^-1 products` for every alpha."""
    size = len(gram)
    if size == 1:
        _check_singular(gram.ravel(), alphas)
        return [products / (gram + alpha) for alpha in alphas]
    # gram = Q T Q' with T tridiagonal; Q is stored as Householder reflections.
    work = int(lapack.dsytrd_lwork(size, lower=1)[0])
    packed, diagonal, beside, tau, _ = lapack.dsytrd(gram, lower=1, lwork=work)
    reflections = np.asfortranarray(packed[1:, :-1])

    def rotate(matrix, transpose):
        rotated, *_ = lapack.dormqr("L", transpose, reflections, tau, matrix[1:], 64 * matrix.shape[1])
        return np.concatenate([matrix[:1], rotated])

    if 0 in alphas:
        _check_singular(linalg.eigvalsh_tridiagonal(diagonal, beside), alphas)
    rotated, solutions = rotate(products, "T"), []
    for alpha in alphas:
        *_, solution, failed = lapack.dptsv(diagonal + alpha, beside, rotated)
        if failed:  # rounding errors larger than alpha made eigenvalues negative
            values, vectors = linalg.eigh_tridiagonal(diagonal, beside)
            solution = vectors @ ((vectors.T @ rotated) / (np.maximum(values, 0) + alpha)[:, None])
        solutions.append(rotate(solution, "N"))
    return solutions


def _check_singular(eigenvalues, alphas):
    if 0 in alphas and eigenvalues.min() <= len(eigenvalues) * np.finfo("float64").eps * eigenvalues.max():
        raise ValueError(
            "The Gram matrix of the features is singular: features are linearly dependent, or outnumber the rows. "
            "Expected: alpha above 0. Received: alpha=0"
        )
