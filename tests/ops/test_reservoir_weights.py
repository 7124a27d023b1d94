"""Reservoir weights: exact spectral radius, distributions and seeds."""

import tracemalloc

import numpy as np
import pytest
from scipy import sparse
from threadpoolctl import threadpool_limits

from keras_dl.ops import reservoir_weights
from keras_dl.ops.reservoir_weights import draw_input_kernel, draw_recurrent_kernel, links, spectral_radius


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Prevents threads of linear algebra from waiting for each other on a busy machine; the matrices are small."""
    with threadpool_limits(1):
        yield


def dense(kernel):
    return kernel.toarray() if sparse.issparse(kernel) else kernel


@pytest.mark.parametrize("units", [50, 127, 129, 150, 200])
def test_the_radius_matches_all_eigenvalues(units):
    for seed, fan_in in enumerate((1, 2, 10, None)):
        kernel = draw_recurrent_kernel(units, fan_in, 0.95, seed=seed)
        assert abs(np.abs(np.linalg.eigvals(dense(kernel))).max() - 0.95) < 1e-6
        assert spectral_radius(kernel) == pytest.approx(0.95, abs=1e-8)


@pytest.mark.parametrize(("units", "seed"), [(200, 24), (400, 27), (2000, 1)])
def test_one_link_per_unit_gives_the_radius_of_a_cycle(units, seed):
    # ARPACK had errors of up to 6% here, or did not converge.
    kernel = draw_recurrent_kernel(units, 1, 0.9, seed=seed)
    sources, weights = links(kernel, 1)
    sizes = []
    for unit in range(units):  # follow the links back until a unit repeats, which closes a cycle
        path = [unit]
        while sources[0, path[-1]] not in path:
            path.append(sources[0, path[-1]])
        cycle = path[path.index(sources[0, path[-1]]) :]
        sizes.append(np.exp(np.log(np.abs(weights[0, cycle])).mean()))
    assert max(sizes) == pytest.approx(0.9, abs=1e-9)


@pytest.mark.parametrize("units", [1, 20, 300])
def test_radius_of_zeros_cycles_and_nilpotent_matrices(units):
    generator = np.random.default_rng(0)
    assert spectral_radius(sparse.csc_array((units, units))) == 0
    assert spectral_radius(draw_recurrent_kernel(units, topology="cycle", radius=0.7)) == pytest.approx(0.7, abs=1e-9)
    order = generator.permutation(units)
    nilpotent = np.triu(generator.normal(size=(units, units)), 1)[order][:, order]
    assert spectral_radius(sparse.csr_array(nilpotent)) == 0
    assert spectral_radius(sparse.csr_array(nilpotent + np.diag(np.full(units, -0.5)))) == 0.5


def test_sparse_and_dense_agree():
    matrix = draw_recurrent_kernel(200, 4, 1.3, seed=3)
    assert spectral_radius(matrix.toarray()) == pytest.approx(spectral_radius(matrix), abs=1e-8)


def test_large_matrices_need_little_memory():
    tracemalloc.start()
    kernel = draw_recurrent_kernel(5000, 10, 0.9, seed=1)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kernel.shape == (5000, 5000) and kernel.nnz == 50_000
    assert peak < 25e6  # dense: 200e6


def test_nilpotent_draws_are_repeated(monkeypatch):
    once = draw_recurrent_kernel(20, 2, seed=5)
    sizes = []

    def zero_at_first(matrix):
        sizes.append(spectral_radius(matrix) if len(sizes) > 1 else 0.0)
        return sizes[-1]

    monkeypatch.setattr(reservoir_weights, "spectral_radius", zero_at_first)
    again = draw_recurrent_kernel(20, 2, seed=5)
    assert len(sizes) == 3
    assert (again.toarray() != once.toarray()).any()
    assert np.abs(np.linalg.eigvals(again.toarray())).max() == pytest.approx(0.9)
    monkeypatch.setattr(reservoir_weights, "spectral_radius", lambda matrix: 0.0)
    with pytest.raises(ValueError, match="radius above 0. Received: units=20, fan_in=2"):
        draw_recurrent_kernel(20, 2)


@pytest.mark.parametrize(("units", "fan_in"), [(5, 5), (30, 10), (1000, 3), (1, 1)])
def test_each_unit_has_distinct_sources(units, fan_in):
    kernel = draw_recurrent_kernel(units, fan_in, seed=2).tocsc()
    np.testing.assert_array_equal(np.diff(kernel.indptr), fan_in)
    assert all(len(set(column)) == fan_in for column in np.split(kernel.indices, units))


def test_a_radius_of_zero_removes_the_memory():
    assert np.abs(draw_recurrent_kernel(10, 3, 0.0).toarray()).max() == 0


def test_the_cycle_links_each_unit_to_the_next():
    np.testing.assert_array_equal(
        draw_recurrent_kernel(3, topology="cycle", radius=0.5).toarray(), 0.5 * np.roll(np.eye(3), 1, axis=1)
    )
    kernel = draw_input_kernel(4, 50, 0.3, "cycle", seed=1)
    np.testing.assert_array_equal(np.unique(kernel), [-0.3, 0.3])


def test_input_weights_are_uniform_within_their_scaling():
    kernel = draw_input_kernel(2, 4000, [0.5, 2.0], seed=1)
    assert np.abs(kernel).max(axis=1) == pytest.approx([0.5, 2.0], rel=0.01)
    assert np.abs(kernel.mean(axis=1)).max() < 0.1
    np.testing.assert_array_equal(kernel, draw_input_kernel(2, 4000, [0.5, 2.0], seed=1))
    np.testing.assert_allclose(kernel, draw_input_kernel(2, 4000, seed=1) * [[0.5], [2.0]])


def test_links_represent_the_same_weights():
    generator = np.random.default_rng(0)
    kernel = sparse.random_array((12, 12), density=0.2, rng=generator, format="csc")
    fan_in = int(np.diff(kernel.indptr).max())
    sources, values = links(kernel, fan_in + 1)
    assert sources.dtype == np.int32 and sources.shape == values.shape == (fan_in + 1, 12)
    back = np.zeros((12, 12))
    np.add.at(back, (sources, np.arange(12)[None]), values)
    np.testing.assert_array_equal(back, kernel.toarray())


def test_dense_matrices_without_a_loop_have_radius_zero():
    assert spectral_radius(np.zeros((200, 200))) == 0
    assert spectral_radius(np.triu(np.ones((300, 300)), 1)) == 0
