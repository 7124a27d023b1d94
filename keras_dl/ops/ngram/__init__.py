"""N-gram language models."""

from keras_dl.ops.ngram.arpa import read_arpa, write_arpa
from keras_dl.ops.ngram.kneser_ney import kneser_ney
from keras_dl.ops.ngram.model import Entries, NGram
from keras_dl.ops.ngram.witten_bell import LONGEST, Table, count, witten_bell

__all__ = [
    "Entries",
    "LONGEST",
    "NGram",
    "Table",
    "count",
    "kneser_ney",
    "read_arpa",
    "witten_bell",
    "write_arpa",
]
