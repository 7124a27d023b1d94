"""Versions in a model's folder, policies, links and fingerprints.

The cases follow TensorFlow Serving's file_system_storage_path_source_test.cc.
"""

import os

import pytest

from keras_dl.serving.server.config import ModelConfig, VersionPolicy
from keras_dl.serving.server.folders import check_links, fingerprint, version_number, wanted_versions


@pytest.fixture
def wanted(tmp_path):
    """wanted(children, policy): the versions that a policy selects in a folder with these children: {number: child}."""

    def select(children, policy):
        for child in children:
            (tmp_path / child).mkdir()
        config = ModelConfig("m", tmp_path, *([policy] if policy else []))
        versions = wanted_versions(config)
        assert all(folder.parent == tmp_path for folder in versions.values())
        return {number: folder.name for number, folder in versions.items()}

    return select


@pytest.mark.parametrize(
    "name, number",
    [
        ("1", 1),
        ("0", 0),
        ("00000123", 123),
        ("20170111173521", 20170111173521),
        ("+1", 1),
        ("-12", -12),
        (" 7", 7),
        ("7\t", 7),
        ("9223372036854775807", 2**63 - 1),
        ("-9223372036854775808", -(2**63)),
        ("9223372036854775808", None),
        ("-9223372036854775809", None),
        ("v1", None),
        ("1.0", None),
        ("1.tmp", None),
        ("0x1", None),
        ("1_000", None),
        ("+ 1", None),
        ("--1", None),
        ("+", None),
        ("", None),
        ("²", None),
        ("١", None),
        (".withdrawn-3", None),
        ("9" * 5000, None),
    ],
)
def test_a_version_is_a_name_that_parses_as_a_64_bit_integer(name, number):
    assert version_number(name) == number


@pytest.mark.parametrize(
    "policy, children",
    [
        (None, {42: "42"}),
        (VersionPolicy(latest=1), {42: "42"}),
        (VersionPolicy(latest=3), {42: "42", 33: "33", 30: "0030"}),
        (VersionPolicy(latest=9), {42: "42", 33: "33", 30: "0030", 17: "17"}),
        (VersionPolicy(), {42: "42", 33: "33", 30: "0030", 17: "17"}),
        (VersionPolicy(specific=(17, 30)), {17: "17", 30: "0030"}),
        (VersionPolicy(specific=(17, 18)), {17: "17"}),
        (VersionPolicy(specific=()), {}),
    ],
)
def test_policies(wanted, policy, children):
    assert wanted(["non_numerical_child", "42", "33", "0030", "17"], policy) == children


def test_the_last_of_several_names_for_one_number_is_used(wanted):
    assert wanted(["0001", "001", "00001"], None) == {1: "001"}


def test_a_file_counts_as_a_version(wanted, tmp_path):
    (tmp_path / "9").touch()
    assert wanted(["8"], None) == {9: "9"}


def test_an_empty_folder_has_no_versions_and_a_missing_one_is_an_error(wanted, tmp_path):
    assert wanted(["not_a_version"], None) == {}
    with pytest.raises(FileNotFoundError):
        wanted_versions(ModelConfig("m", tmp_path / "absent"))


def test_a_fingerprint_changes_with_the_content_of_the_folder(tmp_path):
    (tmp_path / "variables").mkdir()
    before = fingerprint(tmp_path)
    assert fingerprint(tmp_path) == before
    (tmp_path / "variables" / "data").write_bytes(b"1")
    grown = fingerprint(tmp_path)
    (tmp_path / "variables" / "data").chmod(0o600)
    assert len({before, grown, fingerprint(tmp_path)}) == 3
    assert fingerprint(tmp_path / "absent") == frozenset()


@pytest.fixture
def version(tmp_path):
    folder = tmp_path / "models" / "m" / "1"
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").touch()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "saved_model.pb").touch()
    return folder


@pytest.mark.parametrize("inside", ["", "saved_model.pb", "variables", "variables/data", "assets", "assets.extra/deep"])
@pytest.mark.parametrize(
    "target", ["{root}/outside", "/etc/passwd", "{root}/models", "{root}/models/m1", "{root}/nothing"]
)
def test_a_link_that_points_outside_the_base_path_is_rejected(version, tmp_path, inside, target):
    (tmp_path / "models" / "m1").mkdir()
    link = version / inside if inside else version.with_name("2")
    link.parent.mkdir(exist_ok=True)
    if link.exists():
        link.rmdir() if link.is_dir() else link.unlink()
    link.symlink_to(target.format(root=tmp_path))
    with pytest.raises(PermissionError) as caught:
        check_links(version.parent, version if inside else link)
    assert str(caught.value) == "a link points outside the base path"


@pytest.mark.parametrize("inside", ["", "saved_model.pb", "assets.extra/pipe"])
def test_a_pipe_is_rejected_without_reading_it(version, inside):
    pipe = version / inside if inside else version.with_name("2")
    pipe.parent.mkdir(exist_ok=True)
    pipe.unlink(missing_ok=True)
    os.mkfifo(pipe)
    with pytest.raises(PermissionError, match="it contains something that is neither a file nor a folder"):
        check_links(version.parent, version if inside else pipe)


def test_an_indirect_link_outside_the_base_path_is_rejected(version, tmp_path):
    (version.parent / "hidden").mkdir()
    (version.parent / "hidden" / "out").symlink_to(tmp_path / "outside")
    (version / "assets").symlink_to("../hidden")
    with pytest.raises(PermissionError):
        check_links(version.parent, version)


def test_links_inside_the_base_path_and_a_linked_base_path_are_accepted(version, tmp_path):
    base = version.parent
    (base / "..2026_11_22").mkdir()  # the layout of a Kubernetes volume
    os.rename(version, base / "..2026_11_22" / "1")
    (base / "..data").symlink_to("..2026_11_22")
    version.symlink_to("..data/1")
    (base / "..2026_11_22" / "1" / "round").symlink_to("..")
    (tmp_path / "served").symlink_to(base)
    check_links(base, version)
    check_links(tmp_path / "served", tmp_path / "served" / "1")
