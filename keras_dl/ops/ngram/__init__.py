"""N-gram language models."""

from keras_dl.ops.ngram.arpa import read_arpa as read_arpa
from keras_dl.ops.ngram.arpa import write_arpa as write_arpa
from keras_dl.ops.ngram.kneser_ney import kneser_ney as kneser_ney
from keras_dl.ops.ngram.model import Entries as Entries
from keras_dl.ops.ngram.model import NGram as NGram
from keras_dl.ops.ngram.witten_bell import LONGEST as LONGEST
from keras_dl.ops.ngram.witten_bell import Table as Table
from keras_dl.ops.ngram.witten_bell import count as count
from keras_dl.ops.ngram.witten_bell import witten_bell as witten_bell
