import numpy as np

from keras_dl.ops.ctc import greedy_decode

from .textbook import collapse, log_softmax


def test_greedy_decoding_is_collapse_of_the_best_path():
    generator = np.random.default_rng(6)
    for _ in range(40):
        batch, frames, classes = generator.integers(1, 5), generator.integers(1, 12), generator.integers(2, 5)
        blank = int(generator.integers(classes))
        # Whole numbers of 0 to 4 times 3: many repeats; the small noise leaves no ties.
        logits = generator.integers(0, 5, (batch, frames, classes)) * 3 + generator.uniform(0, 0.1, (batch, 1, classes))
        lengths = generator.integers(0, frames + 1, batch)
        padded = logits.astype("float32")
        padded[np.arange(frames) >= lengths[:, None]] = np.nan
        tokens, score = greedy_decode(padded, lengths, blank_index=blank)
        assert (tokens.dtype, score.dtype, tokens.shape) == ("int32", "float32", (batch, frames))
        for row in range(batch):
            expected = collapse(logits[row, : lengths[row]].argmax(axis=-1), blank)
            assert tokens[row].numpy().tolist() == expected + [-1] * (frames - len(expected))
            best = log_softmax(logits[row, : lengths[row]]).max(axis=-1).sum() if lengths[row] else 0.0
            np.testing.assert_allclose(score[row], best, rtol=1e-4, atol=1e-4)


def test_greedy_decoding_without_lengths_takes_all_frames():
    path = [[2, 2, 0, 2, 1, 1, 0]]
    tokens, _ = greedy_decode(np.eye(3, dtype="float32")[path] * 9)
    assert tokens.numpy().tolist() == [[2, 2, 1, -1, -1, -1, -1]]


def test_greedy_decoding_of_no_frames():
    tokens, score = greedy_decode(np.zeros((2, 0, 3), "float32"))
    assert (tokens.shape, score.numpy().tolist()) == ((2, 0), [0.0, 0.0])
