"""Reference implementations of CTC in plain Python and float64 NumPy, close to the textbook."""

import itertools

import numpy as np


def log_softmax(logits):
    logits = np.asarray(logits, np.float64)
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def collapse(path, blank):
    return [token for token, _ in itertools.groupby(path) if token != blank]


def loss_by_enumeration(labels, logits, blank):
    """Returns -log of the summed probability of all of the V ** T paths that collapse to the labels."""
    logp = log_softmax(logits)
    frames, classes = logp.shape
    scores = [
        sum(logp[time, token] for time, token in enumerate(path))
        for path in itertools.product(range(classes), repeat=frames)
        if collapse(path, blank) == list(labels)
    ]
    return -np.logaddexp.reduce(scores) if scores else np.inf


def loss_by_recursion(labels, logits, blank):
    """Graves 2006, equations 6 to 8, in float64."""
    logp = log_softmax(logits)
    states = [blank]
    for label in labels:
        states += [label, blank]
    alpha = np.full(len(states), -np.inf)
    alpha[:2] = logp[0, states[:2]]
    for frame in logp[1:]:
        before = alpha.copy()
        for s, state in enumerate(states):
            terms = [before[s]] + ([before[s - 1]] if s > 0 else [])
            if s > 1 and state != blank and state != states[s - 2]:
                terms.append(before[s - 2])
            alpha[s] = np.logaddexp.reduce(terms) + frame[state]
    return -np.logaddexp.reduce(alpha[-2:])


def loss_and_gradient(labels, logits, blank):
    """Graves 2006, equations 6 to 16: `(loss, gradient [T, V])`; `(inf, 0)` where no path fits.

    In long double, because over a thousand frames the plain recursion in float64 has an error of 1e-10.
    """
    logits = np.asarray(logits, np.longdouble)
    shifted = logits - logits.max(axis=-1, keepdims=True)
    logp = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    frames, classes = logp.shape
    states = np.full(2 * len(labels) + 1, blank)
    states[1::2] = labels
    jump = np.full(len(states), -np.inf)
    jump[2:][(states[2:] != blank) & (states[2:] != states[:-2])] = 0

    def alphas(emission, jump):
        alpha, rows = np.full(len(states), -np.inf, np.longdouble), []
        alpha[0] = 0  # before the first frame
        for frame in emission:
            one, two = (np.concatenate([np.full(n, -np.inf), alpha])[: len(alpha)] for n in (1, 2))
            alpha = np.logaddexp(np.logaddexp(alpha, one), two + jump) + frame
            rows.append(alpha)
        return np.array(rows).reshape(-1, len(states))

    if not frames:
        return (np.inf if len(labels) else 0.0), np.zeros((0, classes))
    emission = logp[:, states]
    backwards = np.concatenate([jump[:2], jump[2:][::-1]])  # a jump into s from s - 2 is one into s - 2 from s
    alpha, beta = alphas(emission, jump), alphas(emission[::-1, ::-1], backwards)[::-1, ::-1]
    loss = -np.logaddexp.reduce(alpha[-1, -2:])
    if loss == np.inf:
        return loss, np.zeros((frames, classes))
    with np.errstate(invalid="ignore"):
        occupancy = np.exp(np.where(emission > -np.inf, alpha + beta - emission, -np.inf) + loss)
    return loss, np.exp(logp) - occupancy @ (states[:, None] == np.arange(classes))


def random_row(generator, longest=8, classes=None):
    """Draws labels, logits and a blank; the labels always fit into the frames."""
    classes = classes or generator.integers(2, 6)
    blank = int(generator.integers(classes))
    frames = generator.integers(1, longest + 1)
    labels = generator.choice([c for c in range(classes) if c != blank], size=generator.integers(0, frames + 1))
    while len(labels) + np.sum(labels[1:] == labels[:-1]) > frames:
        labels = labels[:-1]
    return labels.tolist(), generator.normal(0, 3, (frames, classes)), blank


def levenshtein(first, second):
    row = list(range(len(second) + 1))
    for i, a in enumerate(first, 1):
        previous, row[0] = row[0], i
        for j, b in enumerate(second, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (a != b))
    return row[-1]


def prefix_beam_search(logits, width, blank):
    """Hannun et al. 2014, algorithm 1, without a language model: [(prefix, log probability)], best first."""
    beam = {(): (0.0, -np.inf)}  # prefix: log probability of its paths that end in a blank, and in its last token
    for frame in log_softmax(logits):
        grown = {}

        def add(prefix, blank_score, token_score, grown=grown):
            old = grown.get(prefix, (-np.inf, -np.inf))
            grown[prefix] = np.logaddexp(old[0], blank_score), np.logaddexp(old[1], token_score)

        for prefix, (by_blank, by_token) in beam.items():
            total = np.logaddexp(by_blank, by_token)
            add(prefix, total + frame[blank], by_token + frame[prefix[-1]] if prefix else -np.inf)
            for token, score in enumerate(frame):
                if token != blank:
                    add((*prefix, token), -np.inf, (by_blank if prefix[-1:] == (token,) else total) + score)
        best = sorted(grown.items(), key=lambda item: -np.logaddexp(*item[1]))[:width]
        beam = {prefix: scores for prefix, scores in best if np.logaddexp(*scores) > -np.inf}
    return sorted(((prefix, np.logaddexp(*scores)) for prefix, scores in beam.items()), key=lambda item: -item[1])
