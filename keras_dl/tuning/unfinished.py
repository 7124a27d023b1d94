"""What an earlier, unfinished search left behind."""

import contextlib
import json
import os
import shutil
import sys
from pathlib import Path

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
    for leftover in folder.parent.glob(f".tmp-done-{folder.name}-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    record = folder / "search.json"
    if not record.is_file():
        remove_trials(folder)
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
    remove_trials(folder)


def remove_trials(folder: Path) -> None:
    """Removes the whole state of a search, at once: who is killed meanwhile leaves nothing that looks like one."""
    doomed = folder.parent / f".tmp-done-{folder.name}-{os.getpid()}"
    with contextlib.suppress(FileNotFoundError):
        os.rename(folder, doomed)
    shutil.rmtree(doomed, ignore_errors=True)
