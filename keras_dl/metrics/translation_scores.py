"""BLEU and chrF of translations, computed by sacrebleu."""


def translation_scores(hypotheses, references):
    """Computes BLEU and chrF of a corpus with sacrebleu and its default settings.

    Both are computed over the whole corpus, not averaged over texts, and are comparable with published scores for the
    same references. BLEU (up to 4-grams of words; tokenizer `13a`) penalizes short texts; chrF (up to 6-grams of
    characters) suits languages with rich morphology better.

    Args:
        hypotheses: sequence of str, or of UTF-8 bytes, the translations.
        references: sequence of str, or of UTF-8 bytes, the reference translation of each.

    Returns:
        `{"bleu": float, "chrf": float}`, from 0 to 100; higher is better.

    Raises:
        ValueError: if there are no texts, the numbers of texts differ, or an argument is not a sequence of texts.

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
            raise ValueError(f"Expected `{name}` to be a sequence of texts. Received an item: {text!r:.60}")
    return [text.decode(errors="replace") if isinstance(text, bytes) else text for text in texts]
