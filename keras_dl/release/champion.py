"""Which version is the champion, by hand: the alias in the registry and the folder that a server reads, together."""

from keras_dl.errors import UserError
from keras_dl.release import registry
from keras_dl.release.served_models import show_champion
from keras_dl.serving.versions import exported_versions, withdrawn_versions
from keras_dl.tracking.runs import connect
from keras_dl.tracking.settings import Settings


def promote(settings: Settings, name: str, which: str) -> int:
    """Makes a version the champion, whatever the rule says, and says what a server makes of it.

    The alias moves first. Stopped before the folder follows, the same call does the rest.

    Args:
        settings: of `mlflow.yaml`.
        name: str, the registered model.
        which: a version number or an alias.

    Returns:
        The version.

    Raises:
        UserError: if there is no such version.
    """
    connect(settings)
    version = int(registry.get_version(name, which).version)
    before = registry.find_version(name, settings.registry.champion)
    registry.move_champion(settings, name, version)
    print(f"model  {name} version {version} is the {settings.registry.champion}{_instead_of(before, version)}")
    _serve(settings, name, version)
    return version


def rollback(settings: Settings, name: str) -> int:
    """Makes the champion before the present one the champion again; called again, the one before that.

    Args:
        settings: of `mlflow.yaml`.
        name: str, the registered model.

    Returns:
        The version.

    Raises:
        UserError: if there is no such model, or no champion before that is still there.
    """
    connect(settings)
    champion = registry.get_version(name, settings.registry.champion)
    earlier = registry.earlier_champions(name)
    while earlier and registry.find_version(name, earlier[-1]) is None:
        earlier.pop()  # somebody deleted it
    if not earlier:
        raise UserError(f"{name} version {champion.version} is the first champion: there is none before it")
    version = earlier[-1]
    # The record is shortened last: a rollback that was stopped finds its own version on top, and is only finished.
    registry.set_champion(settings, name, version)
    print(f"model  {name} version {version} is the {settings.registry.champion} again{_instead_of(champion, version)}")
    _serve(settings, name, version)
    registry.remember_champions(name, earlier[:-1])
    return version


def _instead_of(before, version):
    return "" if before is None or int(before.version) == version else f", instead of version {before.version}"


def _serve(settings, name, version):
    """Makes a server take the champion, if it is exported, and says what became of the folder."""
    folder, withdrawn = settings.saved_models, withdrawn_versions(settings.saved_models, name)
    if not show_champion(settings, name, version):
        print(f"export none yet; to serve it: keras-dl export FILE --model {version}, with the pipeline's FILE")
        return
    print(f"export {folder / name / str(version)}")
    newly = sorted(set(withdrawn_versions(folder, name)) - set(withdrawn))
    back = sorted(set(withdrawn) & set(exported_versions(folder, name)))
    for versions, what in ((newly, "withdrawn from serving"), (back, "back in serving")):
        if versions:
            print(f"       {what}: version {', '.join(map(str, versions))}")
