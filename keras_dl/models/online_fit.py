"""`fit` by recursive least squares, which learns at each step."""

import keras
import numpy as np
from keras import ops

from keras_dl.ops.recursive_least_squares import recursive_least_squares
from keras_dl.ops.scan import scan


class OnlineFit:
    """Recursive least squares over the steps of each batch, all its series at once, for `EchoStateNetwork`.

    Example:

    >>> from keras_dl.layers import ESN
    >>> from keras_dl.models import EchoStateNetwork
    >>> wave = np.sin(0.2 * np.arange(300)).reshape(1, -1, 1)
    >>> model = EchoStateNetwork(ESN(50, seed=1), units=1, alpha=1e-4, washout=20)
    >>> history = model.fit(wave, solver="rls", forgetting=0.999, verbose=0)
    >>> history.history["loss"][0] < 0.01
    True
    """

    def _learn_online(self, batches, forgetting, callbacks, learnt):
        """`learnt` is `(kernel, covariance)`, or None at the start; returns the logs and what is learnt then."""
        errors = count = 0.0
        if getattr(self, "_online_function", None) is None:
            self._online_function = _compiled(self._online_steps)
        for number, batch in enumerate(batches):
            if callbacks:
                callbacks.on_train_batch_begin(number)
            x, y, mask, counted, weight = self._checked(number, *self._examples(*batch))
            if learnt is None:
                size = self.readout.kernel.shape[0] + 1
                learnt = np.zeros((size, self.units)), np.eye(size) / max(np.ravel(self.readout.alpha)[0], 1e-12)
            root = np.sqrt(counted * weight)
            x = np.where(mask[..., None], x, 0).astype(keras.backend.standardize_dtype(self.compute_dtype))
            y = np.where(root[..., None] > 0, y, 0).astype("float64")
            states = [variable.value for variable in self.stream()] or self.reservoir.get_initial_state(len(x))
            inputs = [np.swapaxes(array, 0, 1) for array in (x, y, mask, root)]
            outputs, states, *learnt = self._online_function(inputs, states, *learnt, float(forgetting))
            for variable, state in zip(self.stream(), states, strict=False):
                variable.assign(state)
            wrong = (ops.convert_to_numpy(outputs) - inputs[1])[inputs[3] > 0]
            errors, count = errors + np.square(wrong).sum(), count + wrong.size
            if callbacks:
                callbacks.on_train_batch_end(number, {"loss": errors / max(count, 1)})
        if not count:
            raise ValueError("Expected at least one step after washout and masks. Received: none")
        if not np.isfinite(ops.convert_to_numpy(learnt[0])).all():
            raise ValueError("Recursive least squares diverged. Expected: a larger alpha or a forgetting nearer to 1")
        return {"loss": errors / count}, tuple(learnt)

    def _online_steps(self, inputs, states, kernel, covariance, forgetting):
        def step(carry, slices):
            output, kernel, covariance, *old = carry
            x, y, mask, root = slices
            heard = ops.concatenate([x, ops.cast(output, x.dtype)], -1) if self.feedback else x
            states, new = self.reservoir.cell(heard, old, training=True)
            new = new if isinstance(new, list | tuple) else [new]
            new = [ops.where(mask[:, None], a, b) for a, b in zip(new, old, strict=True)]
            features = ops.cast(self._beside(heard, states), "float64")
            features = ops.concatenate([features, ops.ones_like(features[:, :1])], -1)
            output = ops.where(mask[:, None], ops.matmul(features, kernel), output)
            # A weight is a row and its target times the weight's root; rows of zeros teach nothing.
            root = ops.expand_dims(root, -1)
            learnt = recursive_least_squares(kernel, covariance, features * root, y * root, forgetting)
            anything = ops.any(root > 0)
            kernel, covariance = (ops.where(anything, a, b) for a, b in zip(learnt, (kernel, covariance), strict=True))
            return [output, kernel, covariance, *new]

        start = ops.zeros_like(inputs[1][0])
        (_, kernel, covariance, *states), outputs = scan(step, [start, kernel, covariance, *states], inputs)
        return outputs, states, kernel, covariance


def _compiled(function):
    if keras.backend.backend() != "tensorflow":
        return function
    import tensorflow as tf

    return tf.function(function, jit_compile=True)
