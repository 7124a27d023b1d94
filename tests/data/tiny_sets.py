"""Tiny data sets in the TensorFlow Datasets catalog, without a network."""

import numpy as np
import tensorflow_datasets as tfds


def tiny_set(name, features, splits, keys=None):
    """Registers a data set under a name for `tfds.builder`.

    Args:
        name: str, in snake case.
        features: the argument of `tfds.features.FeaturesDict`.
        splits: `{split: [example, ...]}`.
        keys: the supervised keys, or None.
    """

    def info(self):
        return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features), supervised_keys=keys)

    members = {
        "VERSION": tfds.core.Version("1.0.0"),
        "name": name,
        "_info": info,
        "_split_generators": lambda self, manager: {split: enumerate(rows) for split, rows in splits.items()},
        "_generate_examples": lambda self: None,
        "__module__": __name__,
    }
    return type("".join(word.title() for word in name.split("_")), (tfds.core.GeneratorBasedBuilder,), members)


def tiny_images(name, counts, shape=(16, 16, 1), labeled=True):
    """Registers a data set of random images, with `{split: number of examples}`; unknown sizes are 4 pixels."""

    def example(split, number):
        size = [4 if size is None else size for size in shape]
        generator = np.random.default_rng([number, *split.encode()])
        return {"image": generator.integers(1, 256, size, dtype=np.uint8), "label": number % 3}

    features = {"image": tfds.features.Image(shape=shape), "label": tfds.features.ClassLabel(names=["a", "b", "c"])}
    splits = {split: [example(split, number) for number in range(count)] for split, count in counts.items()}
    return tiny_set(name, features, splits, ("image", "label") if labeled else None)
