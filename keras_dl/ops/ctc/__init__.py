"""Connectionist temporal classification (CTC) as pure functions.

Shapes: B sequences, T frames, V classes with the blank, L labels. Labels are class indices `[B, L]`. Negative entries
and blanks are padding, which must be at the end of a row.

Reference: Graves et al. 2006, "Connectionist temporal classification: labelling unsegmented sequence data with
recurrent neural networks", ICML. https://www.cs.toronto.edu/~graves/icml_2006.pdf
"""

from keras_dl.ops.ctc.alignment import Alignment as Alignment
from keras_dl.ops.ctc.alignment import align as align
from keras_dl.ops.ctc.beam_search import Hypotheses as Hypotheses
from keras_dl.ops.ctc.beam_search import beam_search_decode as beam_search_decode
from keras_dl.ops.ctc.certain_blank import certain_blank as certain_blank
from keras_dl.ops.ctc.edit_distance import edit_distance as edit_distance
from keras_dl.ops.ctc.edit_distance import label_error_rate as label_error_rate
from keras_dl.ops.ctc.edit_distance import word_error_rate as word_error_rate
from keras_dl.ops.ctc.greedy import BestPath as BestPath
from keras_dl.ops.ctc.greedy import collapse as collapse
from keras_dl.ops.ctc.greedy import greedy_decode as greedy_decode
from keras_dl.ops.ctc.lattice import minimum_frames as minimum_frames
from keras_dl.ops.ctc.lexicon import Lexicon as Lexicon
from keras_dl.ops.ctc.loss import IMPOSSIBLE as IMPOSSIBLE
from keras_dl.ops.ctc.loss import ctc_loss as ctc_loss
from keras_dl.ops.ctc.streaming import StreamingBeamSearch as StreamingBeamSearch
from keras_dl.ops.ctc.streaming import StreamingGreedy as StreamingGreedy
