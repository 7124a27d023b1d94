"""Checks before a search that its best model can be registered at the end."""

import mlflow
import sqlalchemy

from keras_dl.errors import UserError, reason_of

# The tables written when a version is registered and given an alias.
_TABLES = ("registered_models", "model_versions", "model_version_tags", "registered_model_aliases")


def check_registry(name: str) -> None:
    """Checks that the registry allows a model of this name to be registered, without changing the registry.

    Args:
        name: str, the name of the model.

    Raises:
        UserError: if the registry is not writable, does not answer, or rejects the name.
    """
    if not name.strip(". ") or set(name) & set("/:"):
        raise UserError(f"the name of a registered model must not be empty or contain '/' or ':'. Received: {name!r}")
    uri = mlflow.get_registry_uri()
    try:
        if uri.startswith(("http://", "https://")):
            _check_server(name)
        elif "://" in uri:
            _check_database(uri)
    except (mlflow.MlflowException, sqlalchemy.exc.SQLAlchemyError) as error:
        reason = reason_of(getattr(error, "orig", None) or error)
        where = sqlalchemy.make_url(uri).render_as_string(hide_password=True)
        raise UserError(f"cannot register {name} in the model registry {where}: {reason}") from error


def _check_database(uri):
    engine = sqlalchemy.create_engine(uri)
    try:
        with engine.connect() as connection:
            for table in _TABLES:  # requires the permission and lock for an insert, but inserts no row
                connection.execute(sqlalchemy.text(f"INSERT INTO {table} SELECT * FROM {table} WHERE 1 = 0"))
            connection.rollback()
    finally:
        engine.dispose()


def _check_server(name):
    client = mlflow.MlflowClient()
    try:
        client.create_registered_model("/")  # an invalid name: any other error is about permissions
    except mlflow.MlflowException as error:
        if error.error_code != "INVALID_PARAMETER_VALUE":
            raise
    if any(model.name == name for model in client.search_registered_models(f"name = '{name}'")):
        client.delete_registered_model_alias(name, "nonexistent-alias")  # fails without permission for this model
