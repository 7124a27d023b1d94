"""Replicas of TensorFlow's distribution strategies, each of which sees only its part of a batch."""

import keras


def place_among_replicas():
    """Returns the number of this replica and the number of all replicas.

    Returns:
        `(int, or int tensor, int)`: `(0, 1)` without a strategy, and on other backends, which see the whole batch.

    Example:

    >>> place_among_replicas()
    (0, 1)
    """
    if keras.backend.backend() != "tensorflow":
        return 0, 1
    import tensorflow as tf

    context = tf.distribute.get_replica_context()  # None while Keras builds a model, outside of the replicas
    number = 0 if context is None else context.replica_id_in_sync_group
    return number, tf.distribute.get_strategy().num_replicas_in_sync


def loss_over_replicas(loss, reduction, count, sample_weight=None):
    """Returns the loss of the batch of all replicas, as Keras expects it from each replica.

    Keras divides the mean of a replica by the number of replicas R, adds the gradients, and reports the mean of R times
    the losses, weighted by rows. This differs from the loss of the whole batch if the replicas have different counts.

    Args:
        loss: float tensor `[]`, the loss of this replica, divided by R if it is a mean.
        reduction: as for every Keras loss; a loss that is not reduced is returned unchanged.
        count: tensor `[]`, the number of values by which the sum was divided.
        sample_weight: float tensor or None, which replaces the count if the reduction is `"mean_with_sample_weight"`.

    Returns:
        float tensor `[]`: the mean over the values of all replicas, or their sum, divided by R, the same on each
        replica. Its gradient is that of this replica's part, so that the gradients add up to that of the whole.

    Example:

    >>> float(loss_over_replicas(keras.ops.ones(()), "mean", 3))   # without a strategy, the argument itself
    1.0
    """
    if reduction in (None, "none") or keras.backend.backend() != "tensorflow":
        return loss
    import tensorflow as tf

    from keras_dl.compat.tensorflow import sum_over_replicas

    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return loss
    weighted = reduction == "mean_with_sample_weight" and sample_weight is not None
    replicas, count = context.num_replicas_in_sync, tf.reduce_sum(sample_weight) if weighted else count
    count = 1 if reduction == "sum" else count
    loss, count = tf.reduce_sum(loss), tf.cast(count, loss.dtype)  # without any rows, Keras returns the shape [0]

    @tf.custom_gradient
    def mean(loss):
        total, counts = tf.unstack(sum_over_replicas(context, tf.stack([loss * count, count])))
        share = tf.math.divide_no_nan(replicas * count, counts)
        return tf.math.divide_no_nan(total, counts), lambda slope: slope * share

    return mean(loss)
