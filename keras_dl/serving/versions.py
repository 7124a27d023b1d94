"""What lies in `saved_models/`."""

from pathlib import Path


def exported_versions(saved_models: Path, name: str) -> list[int]:
    """The versions of a model in the folder, newest first."""
    folders = (saved_models / name).glob("*") if (saved_models / name).is_dir() else []
    return sorted((int(path.name) for path in folders if path.name.isdigit() and path.is_dir()), reverse=True)
