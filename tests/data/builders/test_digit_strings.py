"""Tests of digit strings, which are decomposed into their single images again."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from keras_dl.data import Splits, batches, load
from keras_dl.data.builders import digit_strings
from keras_dl.data.builders.digit_strings import DigitStrings, compose
from keras_dl.errors import UserError

from ..tiny_sets import tiny_images

COUNTS = {"train": 3000, "validation": 1000, "test": 1000}  # fewer than by default


def take_apart(image, labels, known, gap, jitter):
    """Decomposes a string into `[(number of the image, gap before, row), ...]` and the last gap.

    Args:
        image: uint8 `[height, width]`.
        labels: the labels of the string.
        known: `{(label, bytes of an image): number of the image}`.
        gap: int, the largest gap.
        jitter: int, the largest vertical shift.
    """
    side = image.shape[0] - 2 * jitter

    def search(left, rest):
        if not rest:
            return [], image.shape[1] - left
        for space in range(gap + 1):
            start = left + space
            for row in range(2 * jitter + 1):
                found = known.get((rest[0], image[row : row + side, start : start + side].tobytes()))
                ends = start + side <= image.shape[1]
                after = search(start + side, rest[1:]) if found is not None and ends else None
                if after is not None:
                    return [(found, space, row), *after[0]], after[1]
        return None

    return search(0, list(labels))


def redraw(parts, last_gap, singles, height):
    """Composes a string from its parts: the inverse of `take_apart`."""
    side = singles.shape[1]
    strips = []
    for number, space, row in parts:
        strip = np.zeros((height, space + side), np.uint8)
        strip[row : row + side, space:] = singles[number]
        strips.append(strip)
    return np.concatenate([*strips, np.zeros((height, last_gap), np.uint8)], axis=1)


def prepare(folder, counts):
    """Prepares the data set of the default images with some numbers of strings, and returns its splits."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(digit_strings, "STRINGS", counts)
        builder = DigitStrings(data_dir=folder)
        builder.download_and_prepare()
    return {split: builder.as_dataset(split=split, shuffle_files=False) for split in counts}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return prepare(tmp_path_factory.mktemp("strings"), COUNTS)


@pytest.fixture(scope="module")
def strings(data):
    """All strings, by split."""
    return {split: list(part.as_numpy_iterator()) for split, part in data.items()}


@pytest.fixture(scope="module")
def singles():
    digits = load_digits()
    return np.round(digits.images * (255 / 16)).astype(np.uint8), digits.target


@pytest.fixture(scope="module")
def taken_apart(strings, singles):
    known = {(label, image.tobytes()): number for number, (image, label) in enumerate(zip(*singles, strict=True))}
    assert len(known) == 1797  # all images differ, so that the content identifies an image
    return {
        split: [take_apart(example["image"][..., 0], example["label"], known, 3, 1) for example in examples]
        for split, examples in strings.items()
    }


def test_strings_consist_of_real_digits_with_gaps_and_shifts(strings, singles, taken_apart):
    gaps, rows, last_gaps = [], [], []
    for split, examples in strings.items():
        assert None not in taken_apart[split]
        for example, (parts, last_gap) in zip(examples, taken_apart[split], strict=True):
            assert np.array_equal(redraw(parts, last_gap, singles[0], 10), example["image"][..., 0])
            gaps += [space for _, space, _ in parts]
            rows += [row for _, _, row in parts]
            last_gaps.append(last_gap)
    for values, largest in ((gaps, 3), (rows, 2), (last_gaps, 3)):
        share = np.bincount(values) / len(values)
        assert len(share) == largest + 1
        np.testing.assert_allclose(share, 1 / (largest + 1), atol=0.02)


def test_no_image_is_in_two_splits(taken_apart):
    used = {split: {part[0] for parts, _ in found for part in parts} for split, found in taken_apart.items()}
    assert not used["train"] & used["validation"]
    assert not used["train"] & used["test"]
    assert not used["validation"] & used["test"]
    # 70/15/15; with this many strings, every image is used.
    assert {split: len(numbers) for split, numbers in used.items()} == {"train": 1258, "validation": 269, "test": 270}


def test_counts_lengths_and_labels(strings):
    assert digit_strings.STRINGS == {"train": 8000, "validation": 1000, "test": 1000}
    assert {split: len(examples) for split, examples in strings.items()} == COUNTS
    for examples in strings.values():
        lengths = np.bincount([len(example["label"]) for example in examples])
        assert len(lengths) == 9 and lengths[0] == 0
        np.testing.assert_allclose(lengths[1:] / len(examples), 1 / 8, atol=0.04)
        digits = np.bincount(np.concatenate([example["label"] for example in examples]))
        np.testing.assert_allclose(digits / digits.sum(), 1 / 10, atol=0.04)
        for example in examples:
            assert example["text"].decode() == "".join(str(digit) for digit in example["label"])
            height, width, channels = example["image"].shape
            assert (height, channels, example["image"].dtype) == (10, 1, np.uint8)
            assert 8 * len(example["label"]) <= width <= 11 * len(example["label"]) + 3
        assert max(example["image"].max() for example in examples) == 255


def test_strings_are_distinct(strings):
    images = [example["image"].tobytes() for examples in strings.values() for example in examples]
    # Strings of one digit can repeat within a split, but not across splits.
    assert len(set(images)) > 0.95 * len(images)
    across = [{example["image"].tobytes() for example in examples} for examples in strings.values()]
    assert not across[0] & across[1] | across[0] & across[2] | across[1] & across[2]


def test_shifted_labels_are_padded_with_the_blank(data):
    ready = batches(Splits(**data), batch_size=16, example=lambda e: (e["image"][..., 0], e["label"] + 1))
    images, labels = next(ready.test.as_numpy_iterator())
    assert images.shape[1] == 10
    for image, label in zip(images, labels, strict=True):
        length = (label > 0).sum()
        assert (label[:length] > 0).all()  # padding only at the end
        assert not image[:, 11 * length + 3 :].any()


FEW = {"train": 60, "validation": 20, "test": 20}


def rebuilt(folder):
    return {
        split: [(example["image"].tobytes(), example["text"]) for example in part.as_numpy_iterator()]
        for split, part in prepare(folder, FEW).items()
    }


def test_preparation_depends_only_on_the_seed(tmp_path, monkeypatch):
    first = rebuilt(tmp_path / "one")
    np.random.seed(3)  # the global generator is not used
    assert rebuilt(tmp_path / "two") == first
    monkeypatch.setattr(DigitStrings, "SEED", 1)
    assert rebuilt(tmp_path / "three") != first


def test_compose_depends_only_on_its_generator(singles):
    def strings_of(seed):
        return [image.tobytes() for image, _ in compose(*singles, 20, np.random.default_rng(seed))]

    assert strings_of(1) == strings_of(1) != strings_of(2)


@pytest.mark.parametrize("counts", [{"train": 60}, {"train": 60, "test": 12}, {"train": 60, "test": 12, "other": 9}])
def test_strings_of_other_data_sets(counts, monkeypatch):
    monkeypatch.setattr(digit_strings, "STRINGS", FEW)
    name = f"squares_of_{len(counts)}"
    builder = tiny_images(name, counts, shape=(16, 16, 3))
    splits = load("digit_strings", images=f"tfds:{name}")
    assert splits.features["image"].shape == (20, None, 1)
    assert splits.features["label"].feature.names == ["a", "b", "c"]

    singles = [
        (example["image"].astype(float).mean(axis=-1).round().astype(np.uint8), example["label"], (split, number))
        for split in counts
        for number, example in enumerate(builder().as_dataset(split=split, shuffle_files=False).as_numpy_iterator())
    ]
    known = {(label, image.tobytes()): place for image, label, place in singles}
    used = {}
    for split, data in zip(COUNTS, splits, strict=True):
        found = []
        for example in data.as_numpy_iterator():
            assert example["text"].decode() == "".join("abc"[label] for label in example["label"])
            found.append(take_apart(example["image"][..., 0], example["label"], known, 6, 2))
        assert None not in found
        used[split] = {part[0] for parts, _ in found for part in parts}
        assert max(space for parts, _ in found for _, space, _ in parts) == 6
        assert {row for parts, _ in found for _, _, row in parts} == {0, 1, 2, 3, 4}
    assert not used["train"] & used["validation"] | used["train"] & used["test"] | used["validation"] & used["test"]
    assert {split for split, _ in used["test"]} == {"test" if "test" in counts else "train"}
    assert {split for split, _ in used["train"] | used["validation"]} == {"train"}


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("tall_images", {"shape": (8, 9, 1)}, r"square images of equal size. tfds:tall_images has .*\(8, 9, 1\)"),
        ("any_images", {"shape": (None, None, 1)}, r"square images of equal size. .*\(None, None, 1\)"),
        ("no_classes", {"labeled": False}, r"tfds:no_classes is not an image classification data set"),
    ],
)
def test_square_images_and_classes_are_required(name, options, message):
    tiny_images(name, {"train": 20}, **options)
    with pytest.raises(UserError, match=message):
        load("digit_strings", images=f"tfds:{name}")
