"""Connectionist temporal classification (CTC) as pure functions.

Shapes: B sequences, T frames, V classes with the blank, L labels. Labels are class indices `[B, L]`. Negative entries
and blanks are padding, which must be at the end of a row.

Reference: Graves et al. 2006, "Connectionist temporal classification: labelling unsegmented sequence data with
recurrent neural networks", ICML. https://www.cs.toronto.edu/~graves/icml_2006.pdf
"""

from keras_dl.ops.ctc.alignment import Alignment, align
from keras_dl.ops.ctc.beam_search import Hypotheses, beam_search_decode
from keras_dl.ops.ctc.certain_blank import certain_blank, may_emit_label
from keras_dl.ops.ctc.edit_distance import edit_distance, label_error_rate, word_error_rate
from keras_dl.ops.ctc.greedy import BestPath, collapse, greedy_decode
from keras_dl.ops.ctc.lattice import minimum_frames
from keras_dl.ops.ctc.lexicon import Lexicon
from keras_dl.ops.ctc.loss import IMPOSSIBLE, ctc_loss, loss_and_possible
from keras_dl.ops.ctc.streaming import StreamingBeamSearch, StreamingGreedy

__all__ = [
    "Alignment",
    "BestPath",
    "Hypotheses",
    "IMPOSSIBLE",
    "Lexicon",
    "StreamingBeamSearch",
    "StreamingGreedy",
    "align",
    "beam_search_decode",
    "certain_blank",
    "collapse",
    "ctc_loss",
    "edit_distance",
    "greedy_decode",
    "label_error_rate",
    "loss_and_possible",
    "may_emit_label",
    "minimum_frames",
    "word_error_rate",
]
