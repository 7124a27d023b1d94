"""Whether the registry would take a model: asked before a search, which may take days to have one."""

import mlflow
import sqlalchemy

from keras_dl.errors import UserError, reason_of
from keras_dl.tracking.settings import Settings

# What registering a version and giving it an alias writes.
_TABLES = ("registered_models", "model_versions", "model_version_tags", "registered_model_aliases")


def check_registry(settings: Settings, name: str) -> None:
    """Asks the registry whether it would register a model of this name, and leaves nothing behind in it.

    Args:
        settings: connected to; the registry may be at an address of its own, `MLFLOW_REGISTRY_URI`.
        name: str, of the model.

    Raises:
        UserError: if it may not be written, does not answer, or has no models of such a name.
    """
    if not name.strip(". ") or set(name) & set("/:"):
        raise UserError(f"a registered model has a name without '/' and ':'. Received: {name!r}")
    uri = mlflow.get_registry_uri()
    try:
        if uri.startswith(("http://", "https://")):
            _ask_server(settings, name)
        elif "://" in uri:
            _ask_database(uri)
    except (mlflow.MlflowException, sqlalchemy.exc.SQLAlchemyError) as error:
        reason = reason_of(getattr(error, "orig", None) or error)
        where = sqlalchemy.make_url(uri).render_as_string(hide_password=True)
        raise UserError(f"the model registry {where} would not take {name}: {reason}") from error


def _ask_database(uri):
    engine = sqlalchemy.create_engine(uri)
    try:
        with engine.connect() as connection:
            for table in _TABLES:  # needs the permission and the lock of an insert, and inserts no row
                connection.execute(sqlalchemy.text(f"INSERT INTO {table} SELECT * FROM {table} WHERE 1 = 0"))
            connection.rollback()
    finally:
        engine.dispose()


def _ask_server(settings, name):
    client = mlflow.MlflowClient()
    try:
        client.create_registered_model("/")  # no such name can be: refused for the name, unless for who asks
    except mlflow.MlflowException as error:
        if error.error_code != "INVALID_PARAMETER_VALUE":
            raise
    if any(model.name == name for model in client.search_registered_models(f"name = '{name}'")):
        client.delete_registered_model_alias(name, "nobody-has-this-alias")  # for who may not write to this model
