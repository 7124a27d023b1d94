"""BLEU and chrF of translations, as others compute them."""


def translation_scores(hypotheses, references):
    """BLEU and chrF of a corpus, computed by the library sacrebleu with its usual settings.

    Both are counted over the whole corpus and not averaged over texts; they compare with published ones of the same
    references. BLEU (words, up to four in a row; tokens `13a`) is harsh to short texts; chrF (characters, up to six in
    a row) is kinder to languages with many endings.

    Args:
        hypotheses: sequence of str, or of bytes in UTF-8, the translations.
        references: likewise, the right one of each.

    Returns:
        `{"bleu": float, "chrf": float}`, from 0 to 100, the best.

    Raises:
        ValueError: if there are no texts, not equally many of both, or what is given is no sequence of texts.

    Example:

    >>> {name: round(score) for name, score in translation_scores(["the cat sat down"], ["the cat sat here"]).items()}
    {'bleu': 59, 'chrf': 61}

    Reference: Post 2018, "A call for clarity in reporting BLEU scores", https://arxiv.org/abs/1804.08771; Papineni et
    al. 2002, "BLEU: a method for automatic evaluation of machine translation"; Popovic 2015, "chrF: character n-gram
    F-score for automatic MT evaluation"
    """
    import sacrebleu

    hypotheses, references = _texts("hypotheses", hypotheses), _texts("references", references)
    if not hypotheses or len(hypotheses) != len(references):
        raise ValueError(
            f"Expected as many references as hypotheses, and at least one. Received: {len(hypotheses)} hypotheses, "
            f"{len(references)} references"
        )
    scorers = {"bleu": sacrebleu.corpus_bleu, "chrf": sacrebleu.corpus_chrf}
    return {name: float(scorer(hypotheses, [references]).score) for name, scorer in scorers.items()}


def _texts(name, given):
    if isinstance(given, (str, bytes)) or not hasattr(given, "__iter__"):
        raise ValueError(f"Expected `{name}` to be a sequence of texts. Received: {given!r:.60}")
    texts = list(given)
    for text in texts:
        if not isinstance(text, (str, bytes)):
            raise ValueError(f"Expected `{name}` to be a sequence of texts. Received in it: {text!r:.60}")
    return [text.decode(errors="replace") if isinstance(text, bytes) else text for text in texts]
