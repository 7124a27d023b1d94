"""Control characters of models do not reach the terminal."""

import logging
import sys
from pathlib import Path

import rich.table

import keras_dl
from keras_dl.console import PlainConsole
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


def test_names_in_tables_are_not_markup(capsys):
    table = rich.table.Table("acc[/macro]", "[red]")
    table.add_row(":smile:", "\x1b[31m[bold]x[/bold]")
    PlainConsole().print(table)
    PlainConsole().print("[/x]")
    output = capsys.readouterr().out
    assert all(text in output for text in ("acc[/macro]", "[red]", ":smile:", "\\x1b[31m[bold]x[/bold]", "[/x]"))


def test_all_tables_of_names_use_the_plain_console():
    files = [
        file for file in Path(keras_dl.__file__).parent.rglob("*.py") if "rich.console.Console()" in file.read_text()
    ]
    assert [file.name for file in files] == ["tables.py"]  # its cells are `rich.text.Text`
