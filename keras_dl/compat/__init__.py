"""Every patch of a library and every use of its private parts, in one module per library.

Each module states the versions that it was tested with, as `TESTED`, and the reason for each entry. A test fails if an
installed version is outside its range, or if another module imports a private module of these libraries.
"""
