"""What an earlier, unfinished search left behind."""

import contextlib
import json
import sys
from pathlib import Path

from keras_dl.durable import remove_folder
from keras_dl.errors import UserError
from keras_dl.tracking.runs import close_abandoned
from keras_dl.tuning.plan import CHANGEABLE, changes


def unfinished(folder: Path, arguments: dict, resume: bool) -> tuple[dict, dict]:
    """The record of an unfinished search, to go on with, and what has changed since; two times {} if there is none.

    Args:
        folder: of the search's state.
        arguments: of this call, see `Plan.arguments`.
        resume: whether to go on although `CHANGEABLE` arguments differ.

    Raises:
        UserError: if its arguments were others, or it cannot be read.
    """
    record = folder / "search.json"
    if not record.is_file():
        remove_folder(folder)
        if resume:
            print("there is no unfinished search to go on with: a new one begins", file=sys.stderr)
        return {}, {}
    try:
        earlier = json.loads(record.read_text(encoding="utf-8"))
        changed = changes(earlier["arguments"], json.loads(json.dumps(arguments)))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{record} cannot be read ({error}): give --fresh to begin anew") from error
    refused = [text for name, text in changed.items() if name not in CHANGEABLE]
    if refused or (changed and not resume):
        way = "Repeat it with the same ones to go on" if refused else "Give --resume to go on with the new ones"
        raise UserError(
            f"an unfinished search lies in {folder}, with other arguments: {'; '.join(changed.values())}. {way}, or "
            "--fresh to throw it away"
        )
    return earlier, changed


def throw_away(folder: Path) -> None:
    """Removes an unfinished search, whose runs end KILLED."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        close_abandoned(json.loads((folder / "search.json").read_text(encoding="utf-8"))["run_id"])
    remove_folder(folder)
