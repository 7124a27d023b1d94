"""N-gram language models as lookup tables."""

import dataclasses

import numpy as np
import tensorflow as tf

from keras_dl.ops.ngram.cuckoo_table import CuckooTable

BEGIN, END, UNKNOWN = "<s>", "</s>", "<unk>"
# Up to this many pairs of a state and a word, all are stored: 32 MiB.
DENSE_PAIRS = 2**22


@dataclasses.dataclass(frozen=True)
class Entries:
    """The entries of one length n in a backoff model.

    Args:
        grams: int array `[G, n]`, indices of words.
        log_probability: float array `[G]`, of the last word given the others; natural logarithm.
        backoff: float array `[G]`, added to the log probability after the shorter context if a word is not listed after
            this gram. Not used for the longest n-grams.
    """

    grams: np.ndarray
    log_probability: np.ndarray
    backoff: np.ndarray


class NGram:
    """A backoff n-gram model with integer states, evaluated by table lookups.

    ```
    log p(w | h) = log_probability(h w)              if h w is listed
                   backoff(h) + log p(w | h')        otherwise; h' is h without its first word
    ```

    A state is the longest listed context that is a suffix of the words so far; the model depends on nothing else.
    `step` accepts tensors of any shape and consists of stock TensorFlow operations: it runs eagerly, in a graph, under
    XLA and in an exported model. Grams are found in a hash table with two probes; with few words and states, for
    example if the "words" are letters, one dense table stores all steps.

    Use `kneser_ney` to estimate a model from text, or `read_arpa` to read one.

    Args:
        vocabulary: list of str, all words, with `<s>`, `</s>` and `<unk>`.
        entries: list of `Entries` of length 1, 2, ... `order`; those of length 1 contain every word.

    Attributes:
        order: int, the length of the longest n-grams.
        vocabulary: list of str.
        entries: list of `Entries`, sorted.
        initial_state: int, the state after `<s>`.

    Raises:
        ValueError: if a word is missing or duplicated, or the context of a gram is not listed.

    Example:

    >>> import numpy as np
    >>> words = ["<unk>", "<s>", "</s>", "a"]
    >>> of_one = Entries(np.array([[0], [1], [2], [3]]), np.log([0.1, 1e-9, 0.4, 0.5]), np.log([1, 0.5, 1, 1]))
    >>> of_two = Entries(np.array([[1, 3]]), np.log([0.75]), np.zeros(1))
    >>> model = NGram(words, [of_one, of_two])
    >>> log_probability, state = model.step([model.initial_state] * 2, model.ids(["a", "b"]))
    >>> print(np.exp(log_probability).round(3))                  # listed after <s>; 0.5 p(<unk>)
    [0.75 0.05]
    >>> print(np.exp(model.finish(state)).round(3))
    [0.4 0.4]

    Reference: Katz 1987, "Estimation of probabilities from sparse data for the language model component of a speech
    recognizer", IEEE Transactions on Acoustics, Speech and Signal Processing 35(3), in the form of ARPA files.
    """

    def __init__(self, vocabulary, entries):
        self.vocabulary = list(vocabulary)
        self._id = {word: index for index, word in enumerate(self.vocabulary)}
        missing = [word for word in (BEGIN, END, UNKNOWN) if word not in self._id]
        if missing or len(self._id) < len(self.vocabulary):
            raise ValueError(
                f"`vocabulary` must contain {BEGIN}, {END} and {UNKNOWN}, and no duplicates. Received: "
                f"{len(self.vocabulary)} words, {len(self._id)} different, without {missing}"
            )
        self.order = len(entries)
        self.entries = [_sorted(of_length) for of_length in entries]
        if not np.array_equal(self.entries[0].grams[:, 0], np.arange(len(self.vocabulary))):
            raise ValueError(
                f"The entries of length 1 must contain each of the {len(self.vocabulary)} words once. Received: "
                f"{len(self.entries[0].grams)} entries"
            )
        self._compile()

    def _compile(self):
        """Numbers the contexts (0 is the empty one, then those of one word, and so on) and fills the tables."""
        words = len(self.vocabulary)
        # For each length: the number of its first context; its grams as sorted numbers.
        first, keys = [0, 1], []

        def state_of(grams):
            """Returns the numbers of contexts `[G, n]`, -1 for contexts that are not listed."""
            state = np.zeros(len(grams), np.int64)
            for length, word in enumerate(grams.T):
                key = state * words + word
                place = np.searchsorted(keys[length], key)
                state = np.where(keys[length][place] == key, first[length + 1] + place, -1)
            return state

        def longest_suffix(grams):
            state = np.zeros(len(grams), np.int64)
            for length in range(1, grams.shape[1] + 1):
                found = state_of(grams[:, -length:])
                state = np.where(found >= 0, found, state)
            return state

        backoff, suffix, arcs, scores, targets = [np.zeros(1)], [np.zeros(1, np.int64)], [], [], []
        for length, of_length in enumerate(self.entries, 1):
            grams = of_length.grams
            context = state_of(grams[:, :-1])
            if (context < 0).any():
                lost = " ".join(self.vocabulary[index] for index in grams[np.argmin(context)])
                raise ValueError(
                    f"Expected an entry for the context of {lost!r}, without its last word. Received: none"
                )
            arcs.append(context * words + grams[:, -1])
            if (np.diff(arcs[-1]) == 0).any():
                twice = " ".join(self.vocabulary[index] for index in grams[np.argmin(np.diff(arcs[-1]))])
                raise ValueError(f"Each n-gram must be listed only once. Received: {twice!r} twice")
            keys.append(np.append(arcs[-1], np.iinfo(np.int64).max))  # a sentinel, so that every search ends at a key
            shorter = longest_suffix(grams[:, 1:])
            scores.append(of_length.log_probability)
            if length < self.order:
                targets.append(first[-1] + np.arange(len(grams)))
                first.append(first[-1] + len(grams))
                backoff.append(of_length.backoff)
                suffix.append(shorter)
            else:
                targets.append(shorter)

        self._backoff = tf.constant(np.concatenate(backoff), tf.float32)
        self._suffix = tf.constant(np.concatenate(suffix), tf.int32)
        self._scores = tf.constant(np.concatenate(scores), tf.float32)
        self._targets = tf.constant(np.concatenate(targets), tf.int32)
        # A single word is its own index; longer n-grams are looked up.
        self._table = CuckooTable(np.concatenate(arcs)[words:], np.arange(words, sum(map(len, arcs))))
        self._dense = None
        states = first[-1]
        begin = self._id[BEGIN]
        self.initial_state = 1 + begin if self.order > 1 else 0
        if states * words <= DENSE_PAIRS:
            self._dense = [
                tf.reshape(table, [-1]) for table in self.step(tf.range(states)[:, None], tf.range(words)[None])
            ]
        self._end = self.step(tf.range(states), self._id[END])[0]

    def ids(self, words):
        """Returns the indices of words, and that of `<unk>` for unknown words.

        Args:
            words: iterable of str.

        Returns:
            int32 array `[N]`.
        """
        unknown = self._id[UNKNOWN]
        return np.array([self._id.get(word, unknown) for word in words], np.int32)

    def step(self, states, tokens):
        """Returns the probability of a word after each state, and the next state.

        Args:
            states: int32 tensor, of any shape.
            tokens: int32 tensor of word indices, of a shape that broadcasts with that of the states.

        Returns:
            `(log_probability, states)`: float32 and int32 tensors of that shape; natural logarithm.
        """
        states, tokens = tf.convert_to_tensor(states, tf.int32), tf.convert_to_tensor(tokens, tf.int32)
        if self._dense is not None:
            pair = states * len(self.vocabulary) + tokens
            return tuple(tf.gather(table, pair) for table in self._dense)
        gram, backoff = self._listed(states, tokens, self.order - 1)
        return backoff + tf.gather(self._scores, gram), tf.gather(self._targets, gram)

    def _listed(self, states, tokens, length):
        """Returns the longest listed gram and the cost of backing off to it, for contexts of at most this length."""
        if length == 0:
            gram = tokens + tf.zeros_like(states)
            return gram, tf.zeros_like(gram, tf.float32)
        key = tf.cast(states, tf.int64) * len(self.vocabulary) + tf.cast(tokens, tf.int64)
        found = self._table.look_up(key)
        shorter, backoff = self._listed(tf.gather(self._suffix, states), tokens, length - 1)
        listed = found >= 0
        return tf.where(listed, found, shorter), tf.where(listed, 0.0, tf.gather(self._backoff, states) + backoff)

    def finish(self, states):
        """Returns the log probability that the sentence ends.

        Args:
            states: int32 tensor, of any shape.

        Returns:
            float32 tensor of that shape: log p(`</s>`); natural logarithm.
        """
        return tf.gather(self._end, states)

    def score(self, sentences):
        """Returns the log probabilities of sentences, from `<s>` to `</s>`.

        Args:
            sentences: list of lists of str. Unknown words count as `<unk>`.

        Returns:
            float64 array `[N]`; natural logarithm.

        Raises:
            ValueError: if a sentence is a str.
        """
        sentences = list(sentences)
        for number, sentence in enumerate(sentences, 1):
            if isinstance(sentence, str):
                raise ValueError(f"Sentences must be lists of words. Received: a str as sentence {number}")
        rows = [self.ids(sentence) for sentence in sentences]
        total, states = np.zeros(len(rows)), np.full(len(rows), self.initial_state, np.int32)
        for place in range(max(map(len, rows), default=0)):
            inside = np.array([place < len(row) for row in rows])
            tokens = np.array([row[place] for row in rows if place < len(row)])
            log_probability, following = self.step(states[inside], tokens)
            total[inside] += log_probability
            states[inside] = following
        return total + self.finish(states).numpy()

    def perplexity(self, sentences):
        """Returns the perplexity per word, counting the end of a sentence as a word.

        Args:
            sentences: list of lists of str.

        Returns:
            float, the number of equally likely words that would be as hard to predict.

        Raises:
            ValueError: if there are no sentences, or a sentence is a str.
        """
        if not sentences:
            raise ValueError("Expected at least one sentence. Received: none")
        words = sum(len(sentence) + 1 for sentence in sentences)
        return float(np.exp(-self.score(sentences).sum() / words))


def _sorted(entries):
    grams = np.asarray(entries.grams, np.int64)
    order = np.lexsort(grams.T[::-1])
    values = (np.asarray(array, np.float64)[order] for array in (entries.log_probability, entries.backoff))
    return Entries(grams[order], *values)
