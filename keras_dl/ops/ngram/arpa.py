r"""N-gram models in ARPA files.

```
\data\
ngram 1=4
ngram 2=1

\1-grams:
-1.0	<unk>	0
-99	<s>	-0.30103
-0.3979	</s>
-0.30103	a	0

\2-grams:
-0.1249	<s> a

\end\
```

A line contains the log probability, the words, and the log backoff weight, which is optional, and 0 if given for the
longest n-grams. Logarithms are to base 10.

Fields are separated by whitespace, so words must not contain ASCII whitespace, and the format has no escape for it.
This module writes the word " ", which letter models need, as `<0x20>`; other readers do not undo this.

Reference: https://cmusphinx.github.io/wiki/arpaformat/
"""

import codecs
import re

import numpy as np

from keras_dl.ops.ngram.model import BEGIN, END, UNKNOWN, Entries, NGram

LN10 = np.log(10)
UTF_16 = codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE
BLANK, ESCAPED_BLANK = " ", "<0x20>"
NUMBER = re.compile(rb"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")  # float() accepts more: 0_3, inf


def read_arpa(path):
    r"""Reads a model from an ARPA file.

    If `<unk>` is missing, it is added with probability 1e-100; `<UNK>`, in upper or mixed case, is read as `<unk>`, and
    `<0x20>` as a space.

    Args:
        path: str or path of the file, in UTF-8, with or without a byte order mark.

    Returns:
        `NGram`.

    Raises:
        ValueError: if the file is not text or is malformed; the message names the file and the line. Possible reasons:
            no `\data\`, sections missing, unknown or out of order, wrong counts, an invalid number or log probability,
            words that are not among the 1-grams, no `<s>` or `</s>` among them, a gram listed twice or without its
            context, no `\end\`.

    Example:

    >>> import pathlib, tempfile
    >>> from keras_dl.ops.ngram import kneser_ney
    >>> model = kneser_ney([["a", "b"], ["a", "c"]], order=2)
    >>> path = pathlib.Path(tempfile.mkdtemp(), "two.arpa")
    >>> write_arpa(path, model)
    >>> bool(abs(read_arpa(path).score([["a", "c"]]) - model.score([["a", "c"]])) < 1e-5)
    True
    """
    with open(path, "rb") as file:
        return _Reader(path, file).read()


def write_arpa(path, model):
    """Writes a model to an ARPA file, which other toolkits can read.

    The word " " is written as `<0x20>`, which `read_arpa` undoes; other toolkits treat it as an ordinary word.

    Args:
        path: str or path of the file.
        model: `NGram`.

    Raises:
        ValueError: if a word could not be read back: it is empty, contains ASCII whitespace and is not a single space,
            or is `<0x20>` or another spelling of `<unk>`. Nothing is written in this case.

    Example: see `read_arpa`.

    >>> import pathlib, tempfile
    >>> from keras_dl.ops.ngram import kneser_ney
    >>> path = pathlib.Path(tempfile.mkdtemp(), "one.arpa")
    >>> write_arpa(path, kneser_ney([["a"]], order=1))
    >>> path.read_text().splitlines()[1]
    'ngram 1=4'
    """
    words = np.array([_written(word) for word in model.vocabulary], object)
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        file.write("\\data\\\n")
        file.writelines(f"ngram {length}={len(e.grams)}\n" for length, e in enumerate(model.entries, 1))
        for length, entries in enumerate(model.entries, 1):
            file.write(f"\n\\{length}-grams:\n")
            columns = words[entries.grams], entries.log_probability / LN10, entries.backoff / LN10
            for gram, log_probability, backoff in zip(*columns, strict=True):
                weight = "" if length == model.order else f"\t{backoff:.9g}"
                file.write(f"{log_probability:.9g}\t{' '.join(gram)}{weight}\n")
        file.write("\n\\end\\\n")


def _written(word):
    """Returns a word as one field."""
    if word == BLANK:
        return ESCAPED_BLANK
    if word.encode().split() != [word.encode()] or _read_word(word) != word:
        raise ValueError(
            "Words of an ARPA file must not be empty, contain ASCII whitespace, or be "
            f"{ESCAPED_BLANK} or {UNKNOWN} in upper case. Received: {word!r}"
        )
    return word


def _read_word(field):
    """Returns the word of a field."""
    return BLANK if field == ESCAPED_BLANK else UNKNOWN if field.lower() == UNKNOWN else field


class _Reader:
    """Reads a file line by line and keeps the line number for error messages."""

    def __init__(self, path, file):
        self.path, self.file = path, file
        self.number, self.line = 0, b""
        self.index = {}  # the index of each word

    def broken(self, what):
        return ValueError(f"{self.path}, line {self.number}: {what}")

    def next(self, wanted):
        """Moves to the next line that is not empty."""
        for line in self.file:
            self.number += 1
            if self.number == 1:
                line = line.removeprefix(codecs.BOM_UTF8)
                if b"\0" in line or line.startswith((b"\x1f\x8b", *UTF_16)):  # the first is gzip's
                    raise self.broken("expected uncompressed UTF-8 text. Received: binary data")
            self.line = line.strip()
            if self.line:
                return self.line
        if not self.number:
            raise ValueError(f"{self.path}: expected {wanted}. Received: an empty file")
        raise self.broken(f"expected {wanted}. Received: the end of the file")

    def read(self):
        while self.next("\\data\\") != b"\\data\\":
            if self.line.startswith(b"\\"):
                raise self.broken(f"expected \\data\\. Received: {self.shown()}")
        announced = []
        while self.next("'ngram N=COUNT' or \\1-grams:").startswith(b"ngram"):
            match = re.fullmatch(rb"ngram\s+(\d+)\s*=\s*(\d+)", self.line)
            if not match or int(match[1]) != len(announced) + 1:
                raise self.broken(f"expected 'ngram {len(announced) + 1}=COUNT'. Received: {self.shown()}")
            announced.append(int(match[2]))
        if not announced:
            raise self.broken(f"expected 'ngram 1=COUNT'. Received: {self.shown()}")
        entries, listed = [], {()}
        for length, count in enumerate(announced, 1):
            if self.line != b"\\%d-grams:" % length:
                raise self.broken(f"expected \\{length}-grams:. Received: {self.shown()}")
            of_length, listed = self.section(length, count, listed, longest=length == len(announced))
            entries.append(of_length)
            if missing := {BEGIN, END} - self.index.keys():
                raise self.broken(f"expected {BEGIN} and {END} among the 1-grams. Missing: {sorted(missing)}")
        if self.line != b"\\end\\":
            raise self.broken(f"expected \\end\\. Received: {self.shown()}")
        return self.model(entries)

    def section(self, length, count, contexts, longest):
        """Reads the entries of one length and the set of their grams, up to the header of the next section."""
        log_probabilities, backoffs, listed = [], [], {}
        wanted = f"{count} {length}-grams, then the next section or \\end\\"
        while not self.next(wanted).startswith(b"\\"):
            fields = self.line.split()  # only at ASCII whitespace: words may contain other whitespace
            backoff = self.number_in(fields[-1], "backoff weight") if len(fields) == length + 2 else 0.0
            if len(fields) not in (length + 1, length + 2) or (longest and backoff != 0):
                raise self.broken(
                    f"expected a log probability, {length} words"
                    f"{'' if longest else ' and optionally a backoff weight'}. Received: {self.shown()}"
                )
            log_probability = self.number_in(fields[0], "log probability")
            if log_probability > 0:
                raise self.broken(f"expected a log probability, at most 0. Received: {self.shown()}")
            gram = tuple(self.words(fields[1 : length + 1], new=length == 1))
            if gram in listed:
                raise self.broken(f"expected each n-gram only once. Received again: {self.shown()}")
            if gram[:-1] not in contexts:
                raise self.broken(f"expected its context among the {length - 1}-grams. Received: {self.shown()}")
            listed[gram] = None
            log_probabilities.append(log_probability)
            backoffs.append(backoff)
        if len(listed) != count:
            raise self.broken(
                f"expected {count} {length}-grams before this line, as announced. Received: {len(listed)}"
            )
        grams = np.array(list(listed), np.int64).reshape(-1, length)
        return Entries(grams, np.array(log_probabilities) * LN10, np.array(backoffs) * LN10), listed

    def number_in(self, field, name):
        number = float(field) if NUMBER.fullmatch(field) else np.nan
        if not np.isfinite(number):
            raise self.broken(f"expected a number as {name}. Received: {self.shown()}")
        return number

    def words(self, fields, new):
        for field in fields:
            try:
                word = _read_word(field.decode())
            except UnicodeDecodeError as error:
                raise self.broken(f"expected UTF-8. Received: {self.shown()}") from error
            if new:
                self.index.setdefault(word, len(self.index))
            elif word not in self.index:
                raise self.broken(f"expected {word!r} among the 1-grams. Received: {self.shown()}")
            yield self.index[word]

    def model(self, entries):
        if UNKNOWN not in self.index:
            of_one = entries[0]
            grams = np.append(of_one.grams, [[len(self.index)]], axis=0)
            entries[0] = Entries(grams, np.append(of_one.log_probability, -100 * LN10), np.append(of_one.backoff, 0))
            self.index[UNKNOWN] = len(self.index)
        return NGram(self.index, entries)

    def shown(self):
        return repr(self.line[:100].decode(errors="replace"))
