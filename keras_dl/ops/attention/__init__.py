"""Attention as pure functions: scores, masks, and kernels whose memory grows linearly with the length."""

from keras_dl.ops.attention.additive import additive_attention as additive_attention
from keras_dl.ops.attention.dot_product import dot_product_attention as dot_product_attention
from keras_dl.ops.attention.masks import causal_mask as causal_mask
from keras_dl.ops.attention.masks import masked_softmax as masked_softmax
from keras_dl.ops.attention.monotonic import MODES as MODES
from keras_dl.ops.attention.monotonic import monotonic_alignment as monotonic_alignment
from keras_dl.ops.attention.scores import additive_score as additive_score
from keras_dl.ops.attention.scores import cosine_score as cosine_score
from keras_dl.ops.attention.scores import dot_score as dot_score
from keras_dl.ops.attention.scores import general_score as general_score
from keras_dl.ops.attention.scores import location_score as location_score
from keras_dl.ops.attention.scores import scaled_dot_score as scaled_dot_score
