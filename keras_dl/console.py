"""A console for tables, apart from `terminal` so that commands without tables do not import rich."""

import rich.console
import rich.text

from keras_dl.terminal import printable


class PlainConsole(rich.console.Console):
    """A console for tables of names that other people chose: their text is shown as it is.

    Brackets and colons are not markup, and control characters are escaped.
    """

    def __init__(self):
        super().__init__(markup=False, emoji=False, highlight=False)

    def render_str(self, text: str, **options) -> rich.text.Text:
        return super().render_str(printable(text), **options)
