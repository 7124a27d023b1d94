"""Adds two things to setup.cfg: pipelines/ as keras_dl.pipelines, and a long description without relative links."""

import re
from pathlib import Path

from setuptools import find_packages, setup

# The project's public address, for example https://github.com/OWNER/keras_dl. Empty: links become plain text.
URL = ""


def long_description() -> str:
    """Returns README.md with its relative links made absolute and its pictures removed."""
    text = Path(__file__).with_name("README.md").read_text(encoding="utf-8")
    text = re.sub(r"!\[[^\]]*\]\((?!https?:)[^)]*\)\n*", "", text)
    return re.sub(r"\[([^\]]*)\]\((?!https?:)([^)]*)\)", rf"[\1]({URL}/blob/main/\2)" if URL else r"\1", text)


setup(
    packages=[*find_packages(include=["keras_dl*"]), "keras_dl.pipelines"],
    package_dir={"keras_dl.pipelines": "pipelines"},
    long_description=long_description(),
    long_description_content_type="text/markdown",
    url=URL or None,
)
