import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_dl.models import language_model, one_step
from keras_dl.ops.sampling import complete, sample, uniforms, utf8_transitions

LOGITS = np.log(np.array([0.1, 0.4, 0.2, 0.3], "float32"))


def draw(uniform, temperature=1.0, top_k=0, logits=LOGITS):
    rows = np.tile(logits, [len(uniform), 1])
    ones = np.ones(len(uniform))
    return sample(rows, uniform, ones * temperature, ones.astype(int) * top_k).numpy().tolist()


def anything(ids, state):
    """Returns equal logits for all bytes."""
    return tf.zeros([tf.shape(ids)[0], 256]), state


def nothing(batch):
    return ()


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(3)
    model = language_model(units=16, embedding=8, depth=2, dropout=0.5)
    # Initial weights give almost uniform outputs; larger ones make a wrong state visible.
    model.set_weights([weight * 4 for weight in model.get_weights()])
    return model


def by_rereading(model, prompt, length):
    """Completes greedily by reading the whole text again for each byte."""
    text, place = prompt, 0
    while length > 0:
        allowed = utf8_transitions()[place] >= 0
        logits = model(np.array([[0, *text]], "int32"))[0, -1].numpy()
        byte = int(np.argmax(np.where(allowed, logits, -np.inf)))
        text, place = text + bytes([byte]), utf8_transitions()[place, byte]
        length -= place == 0
    return text


def test_sample_is_the_inverse_of_the_cumulative_distribution():
    assert draw([0.0, 0.09, 0.11, 0.49, 0.51, 0.69, 0.71, 0.999999]) == [0, 0, 1, 1, 2, 2, 3, 3]


def test_low_temperature_sharpens():
    # Squares of 1, 4, 2, 3 over their sum 30: 0.033, 0.567, 0.7, 1.
    assert draw([0.03, 0.04, 0.56, 0.57, 0.69, 0.71], temperature=0.5) == [0, 1, 1, 2, 2, 3]


@pytest.mark.parametrize("temperature", [0.0, -1.0, 1e-30])
def test_temperature_zero_is_greedy(temperature):
    assert draw([0.0, 0.5, 0.999999], temperature=temperature) == [1, 1, 1]


def test_infinite_temperature_is_uniform_over_allowed_ids():
    logits = np.array([1.0, -np.inf, 5.0, 2.0], "float32")
    assert draw([0.0, 0.32, 0.34, 0.66, 0.67], temperature=np.inf, logits=logits) == [0, 0, 2, 2, 3]


def test_top_k():
    # 0.4 and 0.3 remain: 4/7 and 3/7.
    assert draw([0.0, 0.57, 0.58, 0.999999], top_k=2) == [1, 1, 3, 3]
    assert draw([0.0, 0.999999], top_k=1) == [1, 1]
    many = np.linspace(0, 0.999, 50)
    assert draw(many, top_k=4) == draw(many, top_k=0) == draw(many, top_k=10**6) == draw(many, top_k=-1)


def test_top_k_keeps_exactly_k_of_equal_logits():
    assert set(draw(np.linspace(0, 0.999, 50), top_k=2, logits=np.zeros(4, "float32"))) == {0, 1}


def test_forbidden_ids_are_never_drawn():
    logits = np.array([-np.inf, 0.0, -np.inf, 0.0], "float32")
    assert set(draw(np.linspace(0, 0.999999, 100), logits=logits)) == {1, 3}


def test_frequencies():
    drawn = draw(uniforms([5], 20_000)[0])
    np.testing.assert_allclose(np.bincount(drawn) / 20_000, [0.1, 0.4, 0.2, 0.3], atol=0.02)


def test_the_automaton_agrees_with_python():
    table = utf8_transitions()

    def accepts(text):
        place = 0
        for byte in text:
            place = table[place, byte] if place >= 0 else -1
        return place == 0

    for point in [1, 0x7F, 0x80, 0x7FF, 0x800, 0xFFFF, 0xD7FF, 0xE000, 0x10000, 0x10FFFF, *range(1, 0x110000, 997)]:
        if not 0xD800 <= point < 0xE000:
            assert accepts(chr(point).encode()), hex(point)
    for wrong in ["80", "c080", "c1bf", "e09fbf", "eda080", "f08fbfbf", "f4908080", "f5808080", "c3", "00"]:
        assert not accepts(bytes.fromhex(wrong)), wrong


@functools.cache
def of_random_bytes():
    specs = [tf.TensorSpec([None], tf.string), tf.TensorSpec([], tf.int32), tf.TensorSpec([], tf.int32)]
    return tf.function(
        lambda prompts, length, seed: complete(anything, nothing, prompts, length, seed=seed),
        input_signature=specs,
        autograph=False,
    )


@given(st.lists(st.text(max_size=6), min_size=1, max_size=3), st.integers(0, 12), st.integers(0, 2**31 - 1))
@settings(max_examples=20, deadline=None, derandomize=True)
def test_any_model_writes_the_given_number_of_valid_characters(prompts, length, seed):
    for prompt, text in zip(prompts, of_random_bytes()(prompts, length, seed).numpy(), strict=True):
        assert text.decode().startswith(prompt) and len(text.decode()) == len(prompt) + length


def test_a_prompt_that_is_not_utf8():
    text = complete(anything, nothing, [b"a\xff\xc3"], 2).numpy()[0].decode()
    assert text.startswith("a\ufffd") and len(text.replace("\ufffd", "")) >= 1


def test_stepping_equals_rereading_the_prefix(model):
    prompts = ["", "def ", "naïve — 字", "import a"]
    texts = complete(*one_step(model), prompts, length=[3, 3, 2, 1], temperature=0.0).numpy()
    for prompt, length, text in zip(prompts, [3, 3, 2, 1], texts, strict=True):
        assert text == by_rereading(model, prompt.encode(), length)
    assert len(set(texts)) == 4


def test_a_row_does_not_depend_on_the_others(model):
    step, start = one_step(model)
    # prompt, length, temperature, top_k, seed
    rows = [("a", 5, 1.0, 0, 1), ("a longer one", 12, 0.7, 5, 2), ("", 8, 1.3, 300, 3)]
    together = complete(step, start, *map(list, zip(*rows, strict=True))).numpy()
    for row, text in zip(rows, together, strict=True):
        assert complete(step, start, *([value] for value in row)).numpy().tolist() == [text]


def test_only_equal_seeds_give_equal_texts(model):
    step, start = one_step(model)
    texts = complete(step, start, ["x"] * 3, 20, seed=[4, 4, 5]).numpy()
    assert texts[0] == texts[1] != texts[2]


@pytest.mark.parametrize("length", [0, -3])
def test_length_zero_returns_the_prompt(length):
    assert complete(anything, nothing, ["abc", ""], length).numpy().tolist() == [b"abc", b""]


def test_complete_in_a_saved_model(model, tmp_path):
    step, start = one_step(model)
    specs = [tf.TensorSpec([None], dtype) for dtype in (tf.string, tf.int32, tf.float32, tf.int32, tf.int32)]
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint("complete", lambda *inputs: complete(step, start, *inputs), specs)
    archive.write_out(tmp_path, verbose=False)
    inputs = ["def ", "é"], [7, 3], [0.0, 0.9], [0, 9], [1, 2]
    loaded = tf.saved_model.load(tmp_path)
    served = loaded.complete(*(tf.constant(values) for values in inputs))
    assert served.numpy().tolist() == complete(step, start, *inputs).numpy().tolist()
