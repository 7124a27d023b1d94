"""The cost of CTC decoding: keras_dl compared to TensorFlow, Keras and pyctcdecode.

    python benchmarks/ctc_decoding.py             # about 5 minutes on 2 cores

Beams of width 100 over 32 sequences of 200 frames; all peers run in one process, interleaved A B A B. Ratios are our
time divided by the peer's (below 1, ours is faster), for the median of the rounds. Seconds are wall time and the
processor time of all cores. "graph" runs operation by operation, as TensorFlow Serving runs an exported model; "xla" is
an eager call. The second part decodes sentences with a vocabulary of 10,000 words and an n-gram model of order 3, which
pyctcdecode reads from the same ARPA file through KenLM; both results are scored by the same function. The third part
decodes one chunk of 10 frames of one sequence, as in live recognition.
"""

import os
import statistics
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

from keras_dl.ops.ctc import Lexicon, StreamingBeamSearch, StreamingGreedy, beam_search_decode, ctc_loss
from keras_dl.ops.ngram import kneser_ney, write_arpa

BATCH, FRAMES, CLASSES, WIDTH, ROUNDS = 32, 200, 64, 100, 3
LETTERS = "abcdefghijklmnopqrstuvwxyz"
LABELS = [" ", *LETTERS]
WEIGHT, BONUS = 0.5, 1.5


def import_or_say(name):
    try:
        return __import__(name)
    except ImportError as error:
        print(f"missing: {name} ({error})")
        return None


pyctcdecode, kenlm = import_or_say("pyctcdecode"), import_or_say("kenlm")


def posteriors(kind):
    """Draws logits. Flat: noise. Peaky: tokens of one to three frames between blanks, like those of a trained model."""
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(BATCH, FRAMES, CLASSES)).astype("float32")
    for row in logits if kind == "peaky" else []:
        time = 0
        while time < FRAMES:
            for token, longest in ((generator.integers(1, CLASSES), 4), (0, 6)):
                frames = generator.integers(1, longest)
                row[time : time + frames, token] += 9
                time += frames
    return logits


def decoders(logits, **options):
    """Returns our search in a graph and under XLA."""
    logits = tf.constant(logits)
    lengths = tf.fill([len(logits)], logits.shape[1])

    def decode(logits):
        return beam_search_decode(logits, WIDTH, logit_length=lengths, **options)

    graph = tf.function(decode, autograph=False)
    return {
        "ours, graph": lambda: graph(logits).tokens[:, 0].numpy(),
        "ours, xla": lambda: decode(logits).tokens[:, 0].numpy(),
    }


def tensorflow_decoder(logits):
    """Returns TensorFlow's search, whose blank is the last class and whose inputs have time first."""
    time_major = tf.constant(np.roll(logits, -1, axis=2).transpose(1, 0, 2))
    lengths = tf.fill([BATCH], FRAMES)
    decode = tf.function(tf.nn.ctc_beam_search_decoder, autograph=False)
    return lambda: decode(time_major, lengths, WIDTH)[1].numpy()


def keras_decoder(logits):
    x, lengths = tf.constant(np.roll(logits, -1, axis=2)), tf.fill([BATCH], FRAMES)

    def decode(x):
        return keras.ops.ctc_decode(x, lengths, "beam_search", WIDTH, mask_index=CLASSES - 1)[1]

    graph = tf.function(decode, autograph=False)
    return lambda: graph(x).numpy()


def pyctcdecode_decoder(logits, labels, **options):
    decoder = pyctcdecode.build_ctcdecoder(["", *labels], **options)
    logp = tf.nn.log_softmax(logits).numpy()
    return lambda: [decoder.decode_beams(row, beam_width=WIDTH)[0][0] for row in logp]


def measured(functions, rounds=ROUNDS):
    """Measures each function, interleaved: median seconds of wall and processor time."""
    seconds = {name: [] for name in functions}
    for number in range(rounds + 1):  # the first round traces and compiles
        for name, function in functions.items():
            began = time.perf_counter(), time.process_time()
            function()
            if number:
                seconds[name].append((time.perf_counter() - began[0], time.process_time() - began[1]))
    return {name: [statistics.median(column) for column in zip(*rows, strict=True)] for name, rows in seconds.items()}


def print_ratios(title, seconds):
    print(f"\n{title}\n{'':28}{'clock s':>9}{'cpu s':>9}{'graph/peer':>12}{'xla/peer':>10}   (clock; cpu)")
    for name, (clock, cpu) in seconds.items():
        ratios = [
            f"{seconds[ours][0] / clock:.3f}; {seconds[ours][1] / cpu:.3f}" for ours in ("ours, graph", "ours, xla")
        ]
        print(f"{name:28}{clock:9.3f}{cpu:9.3f}   {ratios[0]:>15}{ratios[1]:>16}")


def sentences_of_words(count):
    """Generates 10,000 words with Zipf frequencies, each with preferred successors."""
    generator = np.random.default_rng(1)
    words = set()
    while len(words) < 10_000:
        words.add("".join(generator.choice(list(LETTERS), generator.integers(2, 9))))
    words = sorted(words)
    frequency = 1 / np.arange(1, len(words) + 1)
    draws = iter(generator.choice(len(words), 40 * count, p=frequency / frequency.sum()))
    sentences = []
    for _ in range(count):
        sentence = [next(draws)]
        for _ in range(generator.integers(3, 9)):
            habit = (sentence[-1] * 31 + 7 * generator.integers(3)) % len(words)
            sentence.append(int(habit) if generator.random() < 0.6 else next(draws))
        sentences.append([words[index] for index in sentence])
    return words, sentences


def spoken(sentences):
    """Generates noisy logits for each sentence, with a wrong letter in one frame of ten."""
    generator = np.random.default_rng(2)
    logits = generator.normal(size=(len(sentences), FRAMES, len(LABELS) + 1)).astype("float32")
    for row, sentence in zip(logits, sentences, strict=True):
        time = 0
        for label in " ".join(sentence):
            wrong = generator.random() < 0.1
            frames = generator.integers(1, 3)
            row[time : time + frames, generator.integers(1, 28) if wrong else LABELS.index(label) + 1] += 5
            row[time : time + frames, LABELS.index(label) + 1] += 2
            row[time + frames : time + frames + 2, 0] += 6
            time += frames + 2
        row[time:, 0] += 6
    return logits


def scores_of(texts, logits, model, listed):
    """Scores each text: log p_ctc + weight * log p_lm + bonus * words; unknown words have the cost of pyctcdecode."""
    longest = max(map(len, texts))
    labels = np.array([[LABELS.index(label) + 1 for label in text] + [-1] * (longest - len(text)) for text in texts])
    words = [text.split() for text in texts]
    unlisted = np.array([sum(word not in listed for word in row) for row in words])
    of_model = model.score(words) - 10 * np.log(10) * unlisted
    return (
        -ctc_loss(labels, logits, impossible="inf").numpy() + WEIGHT * of_model + BONUS * np.array([*map(len, words)])
    )


def plain():
    for kind in ("peaky", "flat"):
        logits = posteriors(kind)
        functions = decoders(logits)
        functions["tf.nn beam search"] = tensorflow_decoder(logits)
        functions["keras.ops.ctc_decode"] = keras_decoder(logits)
        # It would not finish without pruning, and is not designed for flat posteriors.
        if pyctcdecode and kind == "peaky":
            functions["pyctcdecode"] = pyctcdecode_decoder(logits, [chr(192 + label) for label in range(CLASSES - 1)])
        print_ratios(f"Width {WIDTH}, {BATCH} x {FRAMES} x {CLASSES}, {kind} posteriors", measured(functions))


def with_language_model():
    words, sentences = sentences_of_words(20_000)
    model = kneser_ney(sentences, order=3, vocabulary=words)
    short = [sentence for sentence in sentences if len(" ".join(sentence)) <= 52][:BATCH]
    logits = spoken(short)
    lexicon = Lexicon(words, LABELS)
    functions = decoders(logits, lexicon=lexicon, language_model=model, lm_weight=WEIGHT, word_bonus=BONUS)
    texts = {"said": [" ".join(sentence) for sentence in short]}
    rows = functions["ours, xla"]()
    texts["ours"] = ["".join(LABELS[token - 1] for token in row if token > 0).strip() for row in rows]
    if pyctcdecode and kenlm:
        path = os.path.join(tempfile.mkdtemp(), "model.arpa")
        write_arpa(path, model)
        options = {"kenlm_model_path": path, "unigrams": words, "alpha": WEIGHT, "beta": BONUS}
        functions["pyctcdecode with KenLM"] = pyctcdecode_decoder(logits, LABELS, **options)
        texts["pyctcdecode"] = functions["pyctcdecode with KenLM"]()
    title = f"Width {WIDTH}, {BATCH} x {FRAMES}, {len(words)} words, order 3"
    print_ratios(title, measured(functions))
    listed = set(words)
    for name, of_name in texts.items():
        scores = scores_of(of_name, logits, model, listed)
        right = np.mean([text == said for text, said in zip(of_name, texts["said"], strict=True)])
        print(f"{name:28}mean score {scores.mean():9.3f}, correct sentences {right:.2f}")
    if "pyctcdecode" in texts:
        ours, theirs = (scores_of(texts[name], logits, model, listed) for name in ("ours", "pyctcdecode"))
        better = ours - theirs
        print(f"ours better in {np.mean(better > 1e-3):.2f}, worse in {np.mean(better < -1e-3):.2f} of the sentences")


def streaming():
    logits = posteriors("peaky")[:1]
    print(f"\nOne chunk of 10 frames of {CLASSES} classes, one sequence: milliseconds of wall time; of processor time")
    decoders = {f"beam {width}": StreamingBeamSearch(CLASSES, width) for width in (32, 100)}
    for name, decoder in {"greedy": StreamingGreedy(), **decoders}.items():
        pieces = []
        for _ in range(10):
            state = decoder.initial_state(1)
            for begin in range(0, FRAMES, 10):
                began = time.perf_counter(), time.process_time()
                state, tokens = decoder.step(logits[:, begin : begin + 10], state)
                tokens.numpy()
                pieces.append((time.perf_counter() - began[0], time.process_time() - began[1]))
        clock, cpu = (1e3 * statistics.median(column) for column in zip(*pieces[FRAMES // 10 :], strict=True))
        print(f"{name:28}{clock:9.2f}; {cpu:.2f}")


def main():
    lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    processor = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
    print(f"{processor}, {os.cpu_count()} cores, TensorFlow {tf.__version__}")
    plain()
    with_language_model()
    streaming()


if __name__ == "__main__":
    main()
