"""Control characters of models do not reach the terminal."""

import logging
import sys

from keras_dl.terminal import printable, printable_output


def test_control_characters_are_escaped():
    assert printable("a\x1b]0;title\x07\r\x00\x7f\x9b2J\u202e\u2066é\t\n😀") == (
        "a\\x1b]0;title\\x07\\r\\x00\\x7f\\x9b2J\\u202e\\u2066é\t\n😀"
    )


def test_prints_and_logs_are_escaped(capsys):
    with printable_output():
        print("name \x1b[31m", 1, flush=True)
        sys.stdout.writelines(["a\r", "b\n"])
        logging.getLogger("keras_dl.somewhere").warning("failed: \x1b[2J")
        assert sys.stdout.isatty() is False
    captured = capsys.readouterr()
    assert captured.out == "name \\x1b[31m 1\na\\rb\n"
    assert "\x1b" not in captured.err
