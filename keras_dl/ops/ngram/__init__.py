"""N-gram models: counted tables, and the probabilities that they give."""

from keras_dl.ops.ngram.model import Entries as Entries
from keras_dl.ops.ngram.model import NGram as NGram
from keras_dl.ops.ngram.witten_bell import LONGEST as LONGEST
from keras_dl.ops.ngram.witten_bell import Table as Table
from keras_dl.ops.ngram.witten_bell import count as count
from keras_dl.ops.ngram.witten_bell import witten_bell as witten_bell
