"""Strings of real handwritten digits, composed from images of single digits."""

import dataclasses

import numpy as np
import tensorflow_datasets as tfds

from keras_dl.data import catalogue
from keras_dl.data.builders.base import BaseBuilder
from keras_dl.errors import UserError

STRINGS = {"train": 8000, "validation": 1000, "test": 1000}
LONGEST = 8


@dataclasses.dataclass(eq=False)
class DigitStringsConfig(tfds.core.BuilderConfig):
    """The source of the single images.

    `"sklearn"` for scikit-learn's 1797 digits of 8 x 8 pixels, or the TFDS name of an image classification data set
    with square images, such as `"tfds:mnist"`.
    """

    images: str = "sklearn"


class DigitStrings(BaseBuilder):
    """Strings of 1 to 8 handwritten digits with random gaps and vertical jitter.

    The single images are split first, 70/15/15, so that no image is in two splits; if the source has a test split, it
    is kept and the training images are split 85/15. Then 8000/1000/1000 strings are composed: a length from 1 to 8, a
    gap of 0 to 3 columns before, between and after the digits, and a vertical shift of at most one row per digit (gaps
    and shifts scale with the image: 3/8 and 1/8 of its side). All draws are uniform and derive from one seed.

    Features: `image` uint8 `[side + 2 jitter, width, 1]`, 0 = background, 255 = ink; `text`, for example "2024";
    `label` int64 `[length]`.

    Source: scikit-learn's `load_digits`, a copy of the test set of the UCI "Optical Recognition of Handwritten Digits"
    data (Alpaydin and Kaynak 1998), CC BY 4.0.
    """

    SEED = 2024

    def __init__(self, images="sklearn", **kwargs):
        if "config" not in kwargs:
            name = images.removeprefix("tfds:").replace("/", "_").replace(":", "_")
            kwargs["config"] = DigitStringsConfig(name=name, images=images)
        super().__init__(**kwargs)

    def _info(self):
        images = self.builder_config.images
        if images == "sklearn":
            side, names = 8, [str(digit) for digit in range(10)]
        else:
            info = catalogue.find(images).info
            if info.supervised_keys is None or not isinstance(
                info.features[info.supervised_keys[1]], tfds.features.ClassLabel
            ):
                raise UserError(f"{images} is not an image classification data set: it has no (image, class) pairs")
            shape = info.features[info.supervised_keys[0]].shape
            if len(shape) != 3 or shape[0] is None or shape[0] != shape[1]:
                raise UserError(
                    f"digit_strings requires square images of equal size. {images} has images of shape {shape}"
                )
            side, names = shape[0], info.features[info.supervised_keys[1]].names
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(side + 2 * (side // 8), None, 1), dtype=np.uint8),
                    "text": tfds.features.Text(),
                    "label": tfds.features.Sequence(tfds.features.ClassLabel(names=names)),
                }
            ),
            supervised_keys=("image", "text"),
            homepage="https://archive.ics.uci.edu/dataset/80",
        )

    def _split_generators(self, dl_manager):
        single = _sklearn_digits() if self.builder_config.images == "sklearn" else _tfds_images(self.builder_config)
        names = self.info.features["label"].feature.names
        return {
            split: self._examples(*_shuffled_part(single, split, self.SEED), names, count, [self.SEED, order])
            for order, (split, count) in enumerate(STRINGS.items())
        }

    def _examples(self, images, labels, names, count, seed):
        for key, (image, label) in enumerate(compose(images, labels, count, np.random.default_rng(seed))):
            yield key, {"image": image[..., None], "text": "".join(names[i] for i in label), "label": label}


def compose(images, labels, count, generator):
    """Composes strings by placing single images side by side.

    Args:
        images: uint8 `[N, side, side]`, 0 = background.
        labels: int `[N]`.
        count: int, the number of strings.
        generator: `numpy.random.Generator`.

    Yields:
        `(image, label)`: uint8 `[side + 2 jitter, width]` with `jitter = side // 8`, and int64 `[length]`.
    """
    side = images.shape[1]
    gap, jitter = side * 3 // 8, side // 8
    for _ in range(count):
        chosen = generator.integers(len(images), size=generator.integers(1, LONGEST + 1))
        gaps = generator.integers(0, gap + 1, size=len(chosen) + 1)
        rows = generator.integers(0, 2 * jitter + 1, size=len(chosen))
        canvas = np.zeros((side + 2 * jitter, gaps.sum() + side * len(chosen)), np.uint8)
        left = 0
        for image, space, row in zip(images[chosen], gaps, rows, strict=False):
            left += space
            canvas[row : row + side, left : left + side] = image
            left += side
        yield canvas, labels[chosen]


def _sklearn_digits():
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = np.round(digits.images * (255 / 16)).astype(np.uint8)
    return {"all": (pixels, digits.target.astype(np.int64))}


def _tfds_images(config):
    builder = catalogue.prepare(catalogue.find(config.images), f"tfds:{config.images.removeprefix('tfds:')}")
    parts = {}
    for split in set(builder.info.splits) & {"train", "test"}:
        pairs = list(tfds.as_numpy(builder.as_dataset(split=split, as_supervised=True, shuffle_files=False)))
        pixels = np.stack([image for image, _ in pairs]).astype(np.float32).mean(axis=-1)
        parts[split] = np.round(pixels).astype(np.uint8), np.array([label for _, label in pairs], np.int64)
    return parts if len(parts) == 2 else {"all": next(iter(parts.values()))}


def _shuffled_part(single, split, seed):
    """Returns the single images and labels of one split, reproducibly for a seed."""
    if split == "test" and "test" in single:
        return single["test"]
    images, labels = single.get("all", single.get("train"))
    order = np.random.default_rng(seed).permutation(len(images))
    cuts = {"train": (0.0, 0.7), "validation": (0.7, 0.85), "test": (0.85, 1.0)}
    if "test" in single:
        cuts = {"train": (0.0, 0.85), "validation": (0.85, 1.0)}
    start, stop = (int(round(cut * len(images))) for cut in cuts[split])
    return images[order[start:stop]], labels[order[start:stop]]
