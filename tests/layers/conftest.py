"""Functions run eagerly in these tests."""

from ..eager import eager_functions, graphs  # noqa: F401
