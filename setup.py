"""Adds pipelines/ to the package as keras_dl.pipelines; everything else is configured in setup.cfg."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["keras_dl*"]), "keras_dl.pipelines"],
    package_dir={"keras_dl.pipelines": "pipelines"},
)
