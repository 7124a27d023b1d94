"""The commands. Help, `list` and errors in arguments do not import TensorFlow."""

import contextlib
import signal
import sys
from pathlib import Path

from keras_dl.arguments import parse, parse_values
from keras_dl.errors import UserError, line_of, one_line
from keras_dl.startup import import_tensorflow, set_environment
from keras_dl.terminal import printable, printable_output

_FOREIGN = ("export", "predict", "serve")  # verbs that print text from other people's models and servers


def main(arguments: list[str] | None = None) -> int:
    """Runs one command. Exit status: 0 on success, 1 on failure, 2 for invalid input, 130 if it was stopped."""
    options = parse(arguments)
    set_environment()
    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), _stop)  # so that runs end as they do after Ctrl-C
    try:
        with printable_output() if options.verb in _FOREIGN else contextlib.nullcontext():
            return COMMANDS[options.verb](options) or 0
    except UserError as error:
        return _failed(str(error))
    except Exception as error:
        if line_of(error) is None:
            raise
        return _failed(f"{line_of(error)}: {one_line(error)}")
    except KeyboardInterrupt:
        print(getattr(options, "stopped", "stopped"), file=sys.stderr)
        return 130


def _failed(message):
    print(f"keras-dl: {' '.join(printable(message).split())}", file=sys.stderr)
    return 2


def _stop(number, frame):
    raise KeyboardInterrupt


def _tune(options):
    options.stopped = "\nstopped. Every finished trial is kept: the same command resumes, --fresh starts over"
    pipeline, values, settings = _pipeline(options)
    from keras_dl.tuning.plan import Plan, seconds
    from keras_dl.tuning.search import search

    plan = Plan(
        tuner=options.tuner,
        trials=options.trials,
        pins=values,
        executions=options.executions_per_trial,
        early_stop=options.early_stop,
        max_time=options.max_time and seconds(options.max_time),
        resume=options.resume,
        fresh=options.fresh,
        keep=options.keep,
        workers=options.workers,
        chief=options.chief,
    )
    search(pipeline, settings, plan)


def _worker(options):
    path = _pipeline_file(options)
    if options.name is None:
        from keras_dl.tracking.settings import read_settings
        from keras_dl.tuning.distributed.workers import run_workers

        return run_workers(options.address, path, read_settings(), options.workers, _source(options.data))
    from keras_dl.tuning.distributed.supervisor import hold

    hold()  # before TensorFlow is imported, which takes seconds
    from keras_dl.tracking.settings import read_settings

    settings = read_settings()
    import_tensorflow()
    from keras_dl.pipeline import load_pipeline
    from keras_dl.tuning.distributed.worker import work

    work(load_pipeline(path), options.address, settings, options.name, _source(options.data))


def _train(options):
    pipeline, values, settings = _pipeline(options)
    from keras_dl.training.train import train

    train(pipeline, values, settings, options.fresh, options.keep)


def _evaluate(options):
    pipeline, values, settings = _pipeline(options)
    from keras_dl.release.evaluate import evaluate

    evaluate(pipeline, options.model, options.split, values, settings)


def _export(options):
    if options.check is not None and not Path(options.check).is_dir():
        raise UserError(
            f"no folder {options.check}: --check requires the folder of a version, which contains saved_model.pb"
        )
    if options.pipeline is None:
        if options.check is None:
            raise UserError("export requires a pipeline FILE, or --check DIR")
        import_tensorflow()
        from keras_dl.serving.export.check import check

        return 0 if check(Path(options.check)) else 1
    pipeline, values, settings = _pipeline(options)
    from keras_dl.release.evaluate import check_version, export_version

    if options.check is not None:
        return 0 if check_version(pipeline, options.model, values, settings, Path(options.check)) else 1
    export_version(pipeline, options.model, values, settings)


def _pipeline(options):
    """Loads the pipeline, with the options of the command line; returns it, the given values and the settings."""
    path = _pipeline_file(options)
    values = parse_values(options.values)
    from keras_dl.tracking.settings import read_settings

    settings = read_settings()
    import_tensorflow()
    from keras_dl.options import TrainingOptions
    from keras_dl.pipeline import load_pipeline

    pipeline = load_pipeline(path)
    given = {name: getattr(options, name, None) for name in TrainingOptions.names()}
    given["source"] = _source(options.data)
    pipeline.set_training_options(**{name: value for name, value in given.items() if value is not None})
    return pipeline, values, settings


def _pipeline_file(options):
    path = Path(options.pipeline)
    if not path.is_file():  # before TensorFlow is imported, which takes seconds
        raise UserError(f"no pipeline file {path}{_near(path)}")
    return path


def _source(data):
    """Returns the value of `--data`, with a path made absolute, because the run records it for use from any folder."""
    return str(Path(data).resolve()) if data and Path(data).exists() else data or None


def _near(path):
    files = sorted(str(file) for file in path.parent.glob("*.py")) if path.parent.is_dir() else []
    return f". In that folder: {', '.join(files)}" if files else ""


def _reproduce(options):
    from keras_dl.tracking.settings import read_settings

    settings = read_settings()
    import_tensorflow()
    from keras_dl.pipeline import load_pipeline
    from keras_dl.training.reproduce import pipeline_file, reproduce

    path = Path(options.file) if options.file else pipeline_file(options.run, settings)
    return 0 if reproduce(load_pipeline(path), options.run, settings) else 1


def _serve(options):
    given = {"names": ", ".join(options.names), "--config": options.config, "--write-config": options.write_config}
    if options.config and (options.names or options.write_config):
        shown = "; ".join(f"{name} {value}".removeprefix("names ") for name, value in given.items() if value)
        raise UserError(f"expected --config without models or --write-config. Received: {shown}")
    from keras_dl.tracking.settings import read_settings

    settings = read_settings()
    folder = settings.saved_models
    for name in options.names:  # before TensorFlow is imported, which takes seconds
        there = sorted(path.name for path in folder.glob("*") if path.is_dir())
        if name not in there:
            raise UserError(f"no model {name!r} in {folder}. Available: {', '.join(there) or 'none'}")
    batching = None if options.no_batching else _text(options.batching) if options.batching else ""
    ports = {"rest_port": options.rest_port} | ({"grpc_port": options.grpc_port} if options.grpc_port else {})
    import_tensorflow()
    if options.write_config:
        return _write_deployment(settings, Path(options.write_config), options.names, ports)
    from keras_dl.serving.serve import serve
    from keras_dl.serving.server.source import ConfigFile, SavedModels

    source = ConfigFile(Path(options.config)) if options.config else SavedModels(folder, options.names)
    return serve(source, options.host, **ports, by=options.by, batching=batching, allow_unsafe=options.allow_unsafe)


def _write_deployment(settings, folder, names, ports):
    from keras_dl.release.served_models import served_models, write_model_config
    from keras_dl.serving.deployment import write_deployment
    from keras_dl.tracking.runs import connect

    connect(settings)
    files = write_deployment(served_models(settings), settings, folder, names, **ports)
    write_model_config(settings)
    for path in files:
        print(path)
    print(f"\nnext   docker compose --file {folder / 'compose.yaml'} up")


def _text(file):
    try:
        return Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {file}: {getattr(error, 'strerror', None) or error}") from error


def _predict(options):
    from keras_dl.serving.predict import show_prediction
    from keras_dl.tracking.settings import read_settings

    settings = read_settings()

    def example():
        import_tensorflow()
        from keras_dl.release.evaluate import example_of

        return example_of(options.name, settings, options.example)

    given = {"image": options.image, "audio": options.audio, "given": options.input}
    given["example"] = None if options.example is None else example
    show_prediction(options.name, settings, **given, url=options.url)


def _ui(options):
    from keras_dl.tracking.settings import read_settings
    from keras_dl.tracking.ui import ui

    return ui(read_settings(), options.host, options.port, options.name, options.open)


def _promote(options):
    from keras_dl.release.champion import promote
    from keras_dl.tracking.settings import read_settings

    promote(read_settings(), options.name, options.version)


def _rollback(options):
    from keras_dl.release.champion import rollback
    from keras_dl.tracking.settings import read_settings

    rollback(read_settings(), options.name)


def _compare(options):
    from keras_dl.release.champion import compare
    from keras_dl.tracking.settings import read_settings

    compare(read_settings(), options.name, options.first, options.second)


def _list(options):
    from keras_dl.project import show_project
    from keras_dl.tracking.settings import read_settings

    show_project(read_settings())


def _init(options):
    from keras_dl.new_project import pipeline_table, start_project

    if options.pipeline == "":
        print(pipeline_table())
        return
    start_project(Path(options.folder), options.pipeline)


COMMANDS = {
    "tune": _tune,
    "worker": _worker,
    "train": _train,
    "evaluate": _evaluate,
    "export": _export,
    "reproduce": _reproduce,
    "serve": _serve,
    "predict": _predict,
    "ui": _ui,
    "promote": _promote,
    "rollback": _rollback,
    "compare": _compare,
    "list": _list,
    "init": _init,
}

if __name__ == "__main__":
    sys.exit(main())
