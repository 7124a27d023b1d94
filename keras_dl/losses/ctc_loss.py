"""The CTC loss as a Keras loss."""

import keras

from keras_dl.ops.ctc import certain_blank, ctc_loss


@keras.saving.register_keras_serializable("keras_dl")
class CTCLoss(keras.losses.Loss):
    """Connectionist temporal classification loss, right under masks.

    `-log p(labels | logits)` per sequence, averaged over the batch. Keras' own `losses.CTC` multiplies the `[B]` losses
    by a `[B, T]` mask; here a masked frame emits the blank, which is what padding means in CTC.

    Args:
        blank_index: int, the class of the blank. Defaults to 0.
        reduction: as for every Keras loss. Defaults to `"sum_over_batch_size"`.
        name: str. Defaults to `"ctc_loss"`.
        dtype: as for every Keras loss.

    Call arguments:
        y_true: int tensor `[B, L]`, padded at the end with the blank or with negative numbers.
        y_pred: float tensor `[B, T, V]` of logits.
        sample_weight: float tensor `[B]`, optional.

    Example:

    >>> import numpy as np
    >>> loss = CTCLoss()(np.array([[1]]), np.zeros((1, 2, 3), "float32"))
    >>> round(float(np.exp(-loss)), 4)
    0.3333

    Reference: Graves et al. 2006, https://www.cs.toronto.edu/~graves/icml_2006.pdf
    """

    def __init__(self, blank_index=0, reduction="sum_over_batch_size", name="ctc_loss", dtype=None):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.blank_index = blank_index

    def __call__(self, y_true, y_pred, sample_weight=None):
        mask = getattr(y_pred, "_keras_mask", None)
        if mask is not None:
            y_pred = certain_blank(y_pred, mask, self.blank_index)
        return super().__call__(y_true, y_pred, sample_weight)

    def call(self, y_true, y_pred):
        return ctc_loss(y_true, y_pred, blank_index=self.blank_index)

    def get_config(self):
        return {**super().get_config(), "blank_index": self.blank_index}
