"""A sequence-to-sequence model: text in, text out."""

import functools

import keras
import tensorflow as tf

from keras_dl.models.seq2seq.recurrent_encoder import Encoded, check_sizes
from keras_dl.ops.backend import require_tensorflow
from keras_dl.ops.checks import is_integer
from keras_dl.ops.decoding import beam_search, greedy_search, sample_search
from keras_dl.ops.decoding.sampling import drawing
from keras_dl.ops.special_ids import END, PADDING, START, UNKNOWN

LONGEST = 100


@keras.saving.register_keras_serializable("keras_dl")
class Seq2Seq(keras.Model):
    """An encoder, a decoder, and their tokenizers.

    Call the model for training: it maps source ids and target ids to the logits of the next target ids. `decode`
    generates answers with the decoder's `step`, which computes the same logits one token at a time. TensorFlow only.

    Args:
        source_tokenizer, target_tokenizer: `keras_dl.layers.Tokenizer` or `SubwordTokenizer`.
        encoder: a layer `ids [B, S] -> Encoded`: `RecurrentEncoder`, `TransformerEncoder`.
        decoder: `RecurrentDecoder`, `TransformerDecoder`.
        name: str. Defaults to `"seq2seq"`.

    Call arguments:
        inputs: dict of int tensors, `source` `[B, S]` and `target` `[B, T]`, which begins with the start token; 0 is
            padding. `keras_dl.data.ops.teacher_forcing` creates them and the labels.

    Output shape:
        float32 `[B, T, target_tokenizer.size]`, logits.

    Raises:
        ValueError: if the vocabulary size of the encoder or decoder differs from its tokenizer's.

    Example:

    >>> from keras_dl.layers import AdditiveAttention, Tokenizer
    >>> from keras_dl.models.seq2seq import RecurrentDecoder, RecurrentEncoder
    >>> source, target = Tokenizer(list("abc")), Tokenizer(list("xy"))
    >>> decoder = RecurrentDecoder(target.size, units=8, attention=AdditiveAttention(8))
    >>> model = Seq2Seq(source, target, RecurrentEncoder(source.size, units=8), decoder)
    >>> decoded = model.decode(["ab", "cab"], beam_width=4, top_paths=2, max_length=5)
    >>> decoded.tokens.shape, decoded.alignment.shape
    (TensorShape([2, 2, 5]), TensorShape([2, 2, 5, 3]))
    """

    def __init__(self, source_tokenizer, target_tokenizer, encoder, decoder, name="seq2seq", **kwargs):
        require_tensorflow("Seq2Seq")
        for part, tokenizer in ((encoder, source_tokenizer), (decoder, target_tokenizer)):
            if part.vocabulary != tokenizer.size:
                raise ValueError(
                    f"{part.name} must have vocabulary={tokenizer.size}, the size of its tokenizer. "
                    f"Received: {part.vocabulary}"
                )
        inputs = {side: keras.Input((None,), dtype="int32", name=side) for side in ("source", "target")}
        super().__init__(inputs, decoder(inputs["target"], *encoder(inputs["source"])), name=name, **kwargs)
        self.source_tokenizer, self.target_tokenizer = source_tokenizer, target_tokenizer
        self.encoder, self.decoder = encoder, decoder

    def decode(self, source, *, beam_width=1, top_paths=1, max_length=LONGEST, min_length=0, **penalties):
        """Generates the most probable answers for each source.

        Args:
            source: texts, a list or a string tensor `[B]`; or their ids, int tensor `[B, S]`.
            beam_width: int >= 1. 1 (default) takes the most probable token at each step (see `greedy_search`); a larger
                value searches with a beam of that width (see `beam_search`).
            top_paths: int, number of answers for each source. Defaults to 1.
            max_length: int or int tensor `[]`, the maximum number of tokens in an answer; 0 or less allows none.
                Defaults to 100.
            min_length: int or int tensor `[]`, the minimum number of tokens. Defaults to 0.
            **penalties: `length_penalty`, `coverage_penalty` of `beam_search`.

        Returns:
            `Decoded`, with alignment None if the decoder has no attention. `target_tokenizer.text(decoded.tokens)`
            returns the texts `[B, top_paths]`.

        Raises:
            ValueError: if `top_paths` exceeds the beam width, penalties are given without a beam, or a size or length
                is not an integer.
        """
        check_sizes(beam_width=beam_width, top_paths=top_paths)
        if beam_width == 1 and (top_paths != 1 or penalties):
            raise ValueError("`top_paths` above 1 and penalties require `beam_width` above 1. Received: beam_width=1")
        options = {"beam_width": beam_width, "top_paths": top_paths, **penalties} if beam_width > 1 else {}
        search = beam_search if beam_width > 1 else greedy_search
        return self._in_graph(search, self._ids(source), *_bounds(max_length, min_length), options)

    def sample(self, source, seed, *, temperature=1.0, top_k=0, top_p=1.0, max_length=LONGEST, min_length=0):
        """Samples one answer for each source from the model's distribution.

        Args:
            source, max_length, min_length: as in `decode`.
            seed, temperature, top_k, top_p: as in `keras_dl.ops.decoding.sample_search`.

        Returns:
            `Decoded`, with one answer to each source.

        Raises:
            ValueError: as for `sample_search`, or if a length is not an integer.
        """
        ids = self._ids(source)
        options = drawing(ids.shape[0], seed=seed, temperature=temperature, top_k=top_k, top_p=top_p)
        return self._in_graph(sample_search, ids, *_bounds(max_length, min_length), options)

    def signatures(self, max_length=LONGEST, limit=None, **search):
        """Returns serving signatures for `Pipeline.signatures`: text in, text out.

        `serving_default` takes `text`, string `[B]`; `bounded` also takes `max_length`, int32 `[]`. Both return `text`
        and `score` `[B]`; `alternatives` and `alternative_scores` `[B, top_paths]`, best first; `unknown` `[B]`, the
        number of source symbols outside the vocabulary; and, with attention, `alignment` `[B, T_out, T_in]`.

        Args:
            max_length: int, the maximum number of tokens in an answer of `serving_default`. Defaults to 100.
            limit: int, the upper bound of `max_length` in `bounded`, which limits the cost of a request. Defaults to
                `10 * max_length`.
            **search: the other arguments of `decode`.
        """
        limit = 10 * max_length if limit is None else limit

        def answer(text, max_length):
            decoded = self.decode(text, max_length=max_length, **search)
            texts = self.target_tokenizer.text(decoded.tokens)
            outputs = {
                "text": texts[:, 0],
                "score": decoded.score[:, 0],
                "alternatives": texts,
                "alternative_scores": decoded.score,
                "unknown": self.source_tokenizer.unknown(text),
            }
            if decoded.alignment is not None:
                longest = tf.reduce_max(tf.concat([[1], decoded.lengths[:, 0]], axis=0))
                outputs["alignment"] = decoded.alignment[:, 0, :longest]
            return outputs

        text = tf.TensorSpec([None], tf.string, "text")
        bound = tf.TensorSpec([], tf.int32, "max_length")
        return {
            "serving_default": (lambda text: answer(text, max_length), [text]),
            "bounded": (lambda text, max_length: answer(text, tf.minimum(max_length, limit)), [text, bound]),
        }

    def _ids(self, source):
        """Converts texts or ids to ids `[B, S]` with at least one column."""
        if isinstance(source, tf.RaggedTensor):
            source = source.to_tensor()
        if not tf.is_tensor(source):  # TensorFlow would convert an empty list to floats, not strings
            source = (
                tf.zeros([0], tf.string) if isinstance(source, list) and not source else tf.convert_to_tensor(source)
            )
        ids = self.source_tokenizer(source) if source.dtype == tf.string else tf.cast(source, tf.int32)
        if ids.shape.rank != 2:
            raise ValueError(f"Expected texts [B] or ids [B, S]. Received: {source.dtype.name} of shape {source.shape}")
        return tf.pad(ids, [[0, 0], [0, tf.maximum(1 - tf.shape(ids)[1], 0)]])

    def _in_graph(self, *arguments):
        """Runs the search in one graph for all batch sizes and lengths; in eager mode it would be slow."""
        if not tf.config.functions_run_eagerly():
            self._graphs.get_concrete_function(*tf.nest.map_structure(_of_any_size, arguments))
        return self._graphs(*arguments)

    @functools.cached_property
    def _graphs(self):
        return tf.function(self._search, autograph=False)

    def _search(self, search, ids, max_length, min_length, options):
        # Hides the static shape: some layers fail on a static batch size of 0.
        ids = tf.compat.v1.placeholder_with_default(ids, [None, None])
        encoded = Encoded(*self.encoder(ids, training=False))
        prepared = self.decoder.prepare(encoded)
        state = self.decoder.start(encoded, prepared)
        never = tf.reduce_sum(tf.one_hot([PADDING, UNKNOWN, START], self.target_tokenizer.size), axis=0) > 0

        def step(tokens, time, state, prepared):
            logits, state, alignment = self.decoder.step(tokens, time, state, prepared)
            return tf.where(never, float("-inf"), logits), state, alignment

        if options.get("coverage_penalty"):
            options = {**options, "memory_mask": encoded.mask}
        bounds = {"start": START, "end": END, "max_length": max_length, "min_length": min_length}
        return search(step, state, prepared, **bounds, **options)

    def get_config(self):
        parts = ("source_tokenizer", "target_tokenizer", "encoder", "decoder")
        config = {part: keras.saving.serialize_keras_object(getattr(self, part)) for part in parts}
        return {"name": self.name, "trainable": self.trainable, **config}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        made = {
            name: keras.saving.deserialize_keras_object(value, custom_objects) if isinstance(value, dict) else value
            for name, value in config.items()
        }
        return cls(**made)


def _of_any_size(value):
    return tf.TensorSpec([None] * value.shape.rank, value.dtype) if tf.is_tensor(value) else value


def _bounds(max_length, min_length):
    """Checks both bounds and returns them as int32 tensors `[]`."""
    for name, bound in (("max_length", max_length), ("min_length", min_length)):
        if tf.is_tensor(bound):
            right = bound.dtype.is_integer and bound.shape.rank in (0, None)
        else:
            right = is_integer(bound) and abs(bound) <= tf.int32.max
        if not right:
            raise ValueError(f"`{name}` must be a 32-bit integer. Received: {bound!r}")
    return tf.cast(max_length, tf.int32), tf.cast(min_length, tf.int32)
