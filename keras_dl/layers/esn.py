"""Echo state network layer."""

import keras
import numpy as np
from scipy import sparse

from keras_dl.layers.esn_cell import ESNCell
from keras_dl.layers.reservoir import Reservoir
from keras_dl.ops.reservoir_weights import links


@keras.saving.register_keras_serializable("keras_dl")
class ESN(Reservoir):
    """Echo state network: a fixed random recurrent layer (a reservoir); only a readout of its states is trained.

        h~_t = activation(x_t W_in + h_{t-1} W + b + noise)
        h_t  = (1 - leak_rate) h_{t-1} + leak_rate h~_t

    The inputs of all steps are projected by one matrix product, or inside the loop if there are only a few features. If
    W is sparse (fewer than one link in ten), the loop reads only the existing links; otherwise it multiplies by a dense
    matrix. Masked steps keep the state, even if they contain NaN. The weights are fixed, but gradients pass through to
    the layers below.

    Args:
        units: int, N.
        fan_in: int, number of incoming recurrent links per unit. Defaults to 10. None for links from all units.
        spectral_radius: float, largest absolute eigenvalue of W, exact. Defaults to 0.9.
        leak_rate: float in (0, 1], or one per unit. Smaller values make the state change and fade more slowly. Defaults
            to 1.
        input_scaling: float, or one per feature; W_in is uniform in [-input_scaling, input_scaling]. Defaults to 1.
        bias_scaling: float, the same for b. Defaults to 0.
        activation: as in other Keras layers; an activation over all units, such as `"softmax"`, must not change their
            number. Defaults to `"tanh"`.
        noise_stddev: float, standard deviation of the noise added before the activation during training. Defaults to 0.
        topology: `"random"` (default), `"cycle"` or `"given"`; see `ESNCell`.
        feedback: int, number of features at the end of the input that are fed-back outputs. Defaults to 0.
        feedback_scaling: float, scaling of the weights of these features. Defaults to 1.
        density: float in (0, 1], `fan_in` as a fraction of the units. Defaults to None.
        seed: int, seed of all weights. Defaults to None: a random seed, stored in the config.
        return_sequences: bool, whether to return all states instead of the last. Defaults to False.
        return_state: bool, whether to also return the last state. Defaults to False.
        go_backwards: bool, whether to process the sequence from the last step to the first. Defaults to False.
        stateful: bool, whether each batch continues from the final state of the previous one. Defaults to False.
        **kwargs: `zero_output_for_mask`, `name`, `dtype`, as in `keras.layers.RNN`.

    Call arguments:
        sequences: float tensor `[B, T, D]`.
        initial_state: list of one float tensor `[B, N]`. Defaults to zeros.
        mask: bool tensor `[B, T]`, False at padding. Defaults to the Keras mask of `sequences`.
        training: bool, whether to add noise.

    Output shape:
        `[B, N]`, or `[B, T, N]` with `return_sequences`; with `return_state`, followed by `[B, N]`.

    Raises:
        ValueError: if an argument is out of range, or the number of features of the input changes.

    Example:

    >>> import numpy as np
    >>> states = ESN(50, spectral_radius=0.8, leak_rate=0.3, return_sequences=True, seed=1)(np.ones((2, 7, 3)))
    >>> states.shape
    TensorShape([2, 7, 50])

    Reference: Jaeger 2001, "The echo state approach to analysing and training recurrent neural networks"; with leak:
    Jaeger, Lukosevicius, Popovici and Siewert 2007, eq. 1.
    """

    def __init__(
        self,
        units,
        fan_in=10,
        spectral_radius=0.9,
        leak_rate=1.0,
        input_scaling=1.0,
        bias_scaling=0.0,
        activation="tanh",
        noise_stddev=0.0,
        topology="random",
        feedback=0,
        feedback_scaling=1.0,
        density=None,
        seed=None,
        return_sequences=False,
        return_state=False,
        go_backwards=False,
        stateful=False,
        **kwargs,
    ):
        cell = ESNCell(
            units,
            fan_in=fan_in,
            spectral_radius=spectral_radius,
            leak_rate=leak_rate,
            input_scaling=input_scaling,
            bias_scaling=bias_scaling,
            activation=activation,
            noise_stddev=noise_stddev,
            topology=topology,
            feedback=feedback,
            feedback_scaling=feedback_scaling,
            density=density,
            seed=seed,
            dtype=kwargs.get("dtype"),
            name="esn_cell",
        )
        super().__init__(
            cell,
            return_sequences=return_sequences,
            return_state=return_state,
            go_backwards=go_backwards,
            stateful=stateful,
            **kwargs,
        )

    @classmethod
    def from_weights(cls, recurrent_kernel, kernel, bias=None, leak_rate=1.0, activation="tanh", **kwargs):
        """Creates a layer with the given weights, in the order and shapes of `ESN.get_weights()` of TensorFlow Addons.

        The weights are saved with models but are not part of the config; `keras.layers.Bidirectional` therefore needs
        both layers as arguments.

        Args:
            recurrent_kernel: float array `[N, N]`, dense or scipy sparse, used as `h W`.
            kernel: float array `[D, N]`.
            bias: float array `[N]`. Defaults to None: zeros.
            leak_rate: as in the layer.
            activation: as in the layer.
            **kwargs: other arguments of the layer, except those that control how weights are drawn.

        Raises:
            ValueError: if the shapes do not match.

        Example:

        >>> layer = ESN.from_weights(np.array([[0.0, 0.5], [0.5, 0.0]]), np.ones((3, 2)), activation=None)
        >>> keras.ops.convert_to_numpy(layer(np.ones((1, 2, 3))))
        array([[4.5, 4.5]], dtype=float32)
        """
        matrix = sparse.csc_array(recurrent_kernel)
        kernel = np.asarray(kernel)
        units = matrix.shape[0]
        bias = np.zeros(units) if bias is None else np.asarray(bias)
        if matrix.shape != (units, units) or kernel.ndim != 2 or kernel.shape[1] != units or bias.shape != (units,):
            raise ValueError(
                f"Expected a recurrent kernel [N, N], a kernel [D, N] and a bias [N]. Received: shapes {matrix.shape}, "
                f"{kernel.shape} and {bias.shape}"
            )
        fan_in = max(1, int(np.diff(matrix.indptr).max()))
        layer = cls(units, fan_in, leak_rate=leak_rate, activation=activation, topology="given", **kwargs)
        layer.build((None, None, kernel.shape[0]))
        recurrent = links(matrix, fan_in) if layer.cell.gathers else [matrix.toarray()]
        layer.set_weights([*recurrent, kernel, bias])
        return layer

    def get_config(self):
        config = super().get_config()
        del config["cell"]
        cell = self.cell.get_config()
        return {**config, **{key: cell[key] for key in cell.keys() - {"name", "dtype", "trainable"}}}

    @classmethod
    def from_config(cls, config):
        return cls(**config)
