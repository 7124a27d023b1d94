"""Fixed random weights of reservoirs with an exact spectral radius, determined by a seed."""

import numpy as np
from scipy import linalg, sparse
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import ArpackNoConvergence, eigs
from threadpoolctl import threadpool_limits

# Up to this size, computing all eigenvalues is faster than searching for the largest.
DENSE_EIGENVALUES = 128
# Up to this size, all eigenvalues are computed, within minutes, if the search does not converge.
LARGEST_DENSE = 10_000
# Eigenvalues to find, and vectors to keep: the largest few of a random matrix are close together, and ARPACK's defaults
# miss the largest in a third of all matrices.
WANTED, SUBSPACE = 6, 100


def spectral_radius(matrix) -> float:
    """Returns the largest modulus of the eigenvalues.

    For a sparse matrix, it is computed for each strongly connected component; otherwise the radius of (partly)
    nilpotent matrices would consist of rounding errors.

    Args:
        matrix: float array `[N, N]`, dense or scipy sparse. Large sparse matrices are not converted to dense.

    Raises:
        ValueError: if the search does not converge and N is above 10,000.

    Example:

    >>> round(spectral_radius(np.array([[0.0, -2.0], [2.0, 0.0]])), 9)
    2.0
    """
    if not sparse.issparse(matrix) and np.all(matrix):
        return _radius_of_part(np.asarray(matrix, "float64"))
    matrix = sparse.csr_array(matrix, dtype="float64")
    matrix.eliminate_zeros()
    _, part = connected_components(matrix, connection="strong")
    sizes = np.bincount(part)
    radius = float(np.abs(matrix.diagonal()[sizes[part] == 1]).max(initial=0))
    for number in np.flatnonzero(sizes > 1):
        units = np.flatnonzero(part == number)
        inner = matrix if len(units) == len(part) else matrix[units][:, units]
        radius = max(radius, _radius_of_part(inner))
    return radius


def _radius_of_part(matrix):
    size, is_sparse = matrix.shape[0], sparse.issparse(matrix)
    if is_sparse and matrix.nnz == size:  # a cycle: all eigenvalues have the same modulus, for which ARPACK fails
        return float(np.exp(np.log(np.abs(matrix.data)).mean()))
    if size > DENSE_EIGENVALUES:
        start = np.random.default_rng(0).standard_normal(size)
        # Larger matrices have closer eigenvalues; a small matrix that takes this long has hardly any eigenvalues except
        # 0.
        restarts = 100 + size // 100
        try:
            # With thousands of short products, threads lose more time waiting for each other than they save.
            with threadpool_limits(1):
                values = eigs(
                    matrix, WANTED, v0=start, ncv=SUBSPACE, maxiter=restarts, tol=1e-8, return_eigenvectors=False
                )
            return float(np.abs(values).max())
        except ArpackNoConvergence as error:
            if size > LARGEST_DENSE:
                raise ValueError(f"Found no spectral radius. Received: {size} units ({error})") from error
    return float(np.abs(linalg.eigvals(matrix.toarray() if is_sparse else matrix)).max())


def draw_recurrent_kernel(units, fan_in=10, radius=0.9, topology="random", seed=0):
    """Draws recurrent weights in row form, `h W`: column j contains the links into unit j.

    Args:
        units: int, N.
        fan_in: int, the number of links into each unit, drawn without replacement; None for all.
        radius: float, the spectral radius, exact.
        topology: `"random"`, weights from the normal distribution; or `"cycle"`, one link of weight `radius` from each
            unit to the next (Rodan and Tino 2011); `fan_in` is then ignored.
        seed: int or `np.random.SeedSequence`.

    Returns:
        A float64 `[N, N]` scipy sparse array, or a dense one if `fan_in` is None.

    Example:

    >>> kernel = draw_recurrent_kernel(300, fan_in=5, radius=1.25)
    >>> print((kernel != 0).sum(axis=0).max(), round(spectral_radius(kernel), 6))
    5 1.25
    """
    if topology == "cycle":
        rows = np.arange(units)
        return sparse.csc_array((np.full(units, float(radius)), (rows, (rows + 1) % units)), shape=(units, units))
    for generator in np.random.default_rng(seed).spawn(100):
        if fan_in is None:
            kernel = generator.standard_normal((units, units))
        else:
            sources = np.sort(_sources(generator, units, fan_in), axis=1)
            values = generator.standard_normal(sources.size)
            starts = np.arange(0, sources.size + 1, fan_in)
            kernel = sparse.csc_array((values, sources.ravel(), starts), shape=(units, units))
        size = spectral_radius(kernel)
        if size > 1e-3:  # otherwise (nearly) nilpotent, and scaling would produce huge weights
            return kernel * (radius / size)
    raise ValueError(f"Found no recurrent weights with a radius above 0. Received: units={units}, fan_in={fan_in}")


def _sources(generator, units, fan_in):
    """Draws distinct sources for each unit, `[units, fan_in]`."""
    if fan_in**2 > units:  # repetitions would be frequent
        return np.stack([generator.choice(units, fan_in, replace=False, shuffle=False) for _ in range(units)])
    sources = generator.integers(0, units, (units, fan_in))
    while True:
        ordered = np.sort(sources, axis=1)
        again = (ordered[:, 1:] == ordered[:, :-1]).any(axis=1)
        if not again.any():
            return sources
        sources[again] = generator.integers(0, units, (again.sum(), fan_in))


def draw_input_kernel(features, units, scaling=1.0, topology="random", seed=0):
    """Draws input weights `[D, N]`, uniform in -scaling..scaling; for the cycle, +scaling or -scaling.

    Args:
        features: int, D.
        units: int, N.
        scaling: float, or one value per feature.
        topology: as for `draw_recurrent_kernel`.
        seed: int or `np.random.SeedSequence`.

    Example:

    >>> draw_input_kernel(2, 500, scaling=[0.1, 5.0]).max(axis=1).round(1)
    array([0.1, 5. ])
    """
    kernel = np.random.default_rng(seed).uniform(-1, 1, (features, units))
    kernel = np.sign(kernel) if topology == "cycle" else kernel
    return kernel * np.broadcast_to(scaling, features)[:, None]


def links(kernel, fan_in):
    """Converts weights to lists of links: `(sources, values)`, int32 and float64 `[fan_in, N]`.

    Args:
        kernel: scipy sparse `[N, N]` in row form, with at most `fan_in` links into each unit; units with fewer are
            padded with links of weight 0.
        fan_in: int.

    Example:

    >>> links(sparse.csc_array(np.array([[0.0, 0.5], [2.0, 0.0]])), 1)
    (array([[1, 0]], dtype=int32), array([[2. , 0.5]]))
    """
    kernel = sparse.csc_array(kernel)
    units = kernel.shape[0]
    sources, values = np.zeros((fan_in, units), "int32"), np.zeros((fan_in, units))
    unit = np.repeat(np.arange(units), np.diff(kernel.indptr))
    place = np.arange(kernel.nnz) - kernel.indptr[unit]
    sources[place, unit], values[place, unit] = kernel.indices, kernel.data
    return sources, values
