"""Subword vocabularies for `keras_dl.layers.SubwordTokenizer`, learned from texts."""

import io
import re

from keras_dl.errors import UserError


def learn_subwords(texts, size: int) -> tuple[list[str], list[float]]:
    """Learns a unigram subword model (Kudo 2018) with the sentencepiece library. Equal texts give equal models.

    Every character is a piece, so the texts contain no unknown symbols. Only spaces are normalized. Texts of more than
    4192 bytes are ignored.

    Args:
        texts: iterable of str, or of UTF-8 bytes as in data sets: the training texts only.
        size: int, the maximum number of pieces.

    Returns:
        `(pieces, scores)`: list of str, with `"▁"` for a space, and list of float, their log probabilities.

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
        raise UserError("there is no text to learn subwords from")
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_writer=model,
            model_type="unigram",
            vocab_size=size + 1,  # plus the unknown piece
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
        # Drops the source location and the advice about options that users cannot set here.
        reason = str(error).strip().splitlines()[-1].rpartition("] ")[2].partition(". Increase")[0]
        counts = re.search(r"required_chars\. \d+ vs (\d+)", reason)
        if counts:
            least = int(counts[1]) - 1  # without the unknown piece
            reason = f"each character is a piece, so the size must be at least {least}"
        raise UserError(f"cannot learn {size} subwords from these texts: {reason}") from error
    learned = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    ids = range(1, learned.get_piece_size())
    return [learned.id_to_piece(i) for i in ids], [learned.get_score(i) for i in ids]
