"""`keras-dl list`: the pipelines, registered models and exports of a project. Does not import TensorFlow."""

from pathlib import Path

import rich.box
import rich.table

from keras_dl.console import PlainConsole
from keras_dl.new_project import first_line
from keras_dl.release import registry
from keras_dl.serving.client import Client
from keras_dl.serving.predict import DEFAULT_URL
from keras_dl.serving.versions import exported_versions, withdrawn_versions
from keras_dl.tracking.runs import connect
from keras_dl.tracking.settings import Settings


def show_project(settings: Settings) -> None:
    """Prints the pipelines of a project and its registered versions, and whether each is exported and served."""
    console = PlainConsole()
    files = sorted((settings.root / "pipelines").glob("*.py"))
    table = rich.table.Table("pipeline", "what it does", box=rich.box.SIMPLE_HEAD)
    for path in files:
        table.add_row(str(path.relative_to(settings.root)), first_line(path))
    if files:
        console.print(table)
    else:
        console.print(f"no pipelines in {settings.root / 'pipelines'}: keras-dl init creates one")

    rows = []
    if not _is_missing_sqlite(settings.tracking_uri):
        connect(settings)
        rows = registry.list_models()
    if not rows:
        console.print("no registered models yet: keras-dl tune PIPELINE")
        return
    columns = ["model", "version", "alias", "metric", "test value", "exported", "served"]
    table = rich.table.Table(*columns, box=rich.box.SIMPLE_HEAD)
    with Client(DEFAULT_URL) as client:
        served = {name: client.is_available(name) for name in {row["name"] for row in rows}}
    for row in rows:
        exported, withdrawn = (
            find(settings.saved_models, row["name"]) for find in (exported_versions, withdrawn_versions)
        )
        number = row["version"]
        value = f"{float(row['value']):.4g}" if "value" in row else "-"
        # Servers use the highest version in the folder.
        live = "yes" if served[row["name"]] and exported[:1] == [number] else "-"
        out = "yes" if number in exported else "withdrawn" if number in withdrawn else "-"
        table.add_row(
            row["name"], str(number), ", ".join(row["aliases"]) or "-", row.get("metric", "-"), value, out, live
        )
    console.print(table)


def _is_missing_sqlite(uri):
    # Listing models must not create a store.
    return uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).is_file()
