"""Vocabularies of subwords, learned from texts, for a `keras_dl.layers.SubwordTokenizer`."""

import io
import re

from keras_dl.errors import UserError


def learn_subwords(texts, size: int) -> tuple[list[str], list[float]]:
    """A unigram model of subwords (Kudo 2018) as the library sentencepiece learns it; equal texts give equal ones.

    Every character is a piece, so that nothing of the texts is unknown. Nothing is normalized but blanks. Texts of more
    than 4192 bytes are passed over.

    Args:
        texts: iterable of str, or of bytes in UTF-8 as data sets have them: those to train on, and no others.
        size: int, how many pieces at most.

    Returns:
        `(pieces, scores)`: list of str, `"▁"` in them for a blank, and list of float, their log probabilities.

    Raises:
        UserError: if there is no text, or `size` is below the number of characters.

    Example:

    >>> pieces, scores = learn_subwords(["low lower lowest", "new newer newest", "wide wider widest"] * 9, size=30)
    >>> "▁new" in pieces, len(pieces) == len(scores) <= 30
    (True, True)
    """
    import sentencepiece

    texts = (text.decode(errors="replace") if isinstance(text, bytes) else text for text in texts)
    texts = [text for text in texts if text.strip()]
    if not texts:
        raise UserError("there is no text to learn subwords of")
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_writer=model,
            model_type="unigram",
            vocab_size=size + 1,  # and the unknown piece
            hard_vocab_limit=False,
            character_coverage=1.0,
            normalization_rule_name="identity",
            unk_id=0,
            bos_id=-1,
            eos_id=-1,
            pad_id=-1,
            minloglevel=3,
        )
    except (RuntimeError, OSError) as error:
        # Without the place in its source, and the options to change, which are not ours.
        reason = str(error).strip().splitlines()[-1].rpartition("] ")[2].partition(". Increase")[0]
        counts = re.search(r"required_chars\. \d+ vs (\d+)", reason)
        if counts:
            least = int(counts[1]) - 1  # without the unknown piece
            reason = f"each character is one, and so the size must be {least} at least"
        raise UserError(f"no {size} subwords can be learned of these texts: {reason}") from error
    learned = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    ids = range(1, learned.get_piece_size())
    return [learned.id_to_piece(i) for i in ids], [learned.get_score(i) for i in ids]
