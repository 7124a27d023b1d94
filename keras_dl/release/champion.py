"""`keras-dl promote` and `rollback`: change the champion in the registry and in the folder that servers read."""

from keras_dl.errors import UserError
from keras_dl.release import registry
from keras_dl.release.served_models import show_champion
from keras_dl.serving.versions import exported_versions, withdrawn_versions
from keras_dl.tracking.runs import connect
from keras_dl.tracking.settings import Settings


def promote(settings: Settings, name: str, which: str) -> int:
    """Makes a version the champion regardless of its metrics, updates the served versions and prints both changes.

    The alias moves before the folder is updated; if the call is interrupted, repeating it completes the change.

    Args:
        settings: the `Settings` of the project.
        name: str, the name of the registered model.
        which: a version number or an alias.

    Returns:
        int, the version.

    Raises:
        UserError: if the version does not exist.
    """
    connect(settings)
    version = int(registry.get_version(name, which).version)
    before = registry.find_version(name, settings.registry.champion)
    registry.move_champion(settings, name, version)
    print(f"model  {name} version {version} is the {settings.registry.champion}{_instead_of(before, version)}")
    _serve(settings, name, version)
    return version


def rollback(settings: Settings, name: str) -> int:
    """Makes the previous champion the champion again; each further call goes one champion further back.

    Args:
        settings: the `Settings` of the project.
        name: str, the name of the registered model.

    Returns:
        int, the version.

    Raises:
        UserError: if the model does not exist, or no earlier champion is left.
    """
    connect(settings)
    champion = registry.get_version(name, settings.registry.champion)
    earlier = registry.earlier_champions(name)
    while earlier and registry.find_version(name, earlier[-1]) is None:
        earlier.pop()  # deleted
    if not earlier:
        raise UserError(f"{name} version {champion.version} is the first champion: there is no earlier one")
    version = earlier[-1]
    # The record is shortened last, so that repeating an interrupted rollback completes it instead of going further.
    registry.set_champion(settings, name, version)
    print(f"model  {name} version {version} is the {settings.registry.champion} again{_instead_of(champion, version)}")
    _serve(settings, name, version)
    registry.remember_champions(name, earlier[:-1])
    return version


def _instead_of(before, version):
    return "" if before is None or int(before.version) == version else f", instead of version {before.version}"


def _serve(settings, name, version):
    """Makes servers use the champion, if it is exported, and prints the changes to the folder."""
    folder, withdrawn = settings.saved_models, withdrawn_versions(settings.saved_models, name)
    if not show_champion(settings, name, version):
        print(f"export missing; to serve it: keras-dl export FILE --model {version}, where FILE is the pipeline")
        return
    print(f"export {folder / name / str(version)}")
    newly = sorted(set(withdrawn_versions(folder, name)) - set(withdrawn))
    back = sorted(set(withdrawn) & set(exported_versions(folder, name)))
    for versions, what in ((newly, "withdrawn from serving"), (back, "back in serving")):
        if versions:
            print(f"       {what}: version {', '.join(map(str, versions))}")
