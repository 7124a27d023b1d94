"""The command line. Help, `list` and errors in arguments answer without importing TensorFlow."""

import argparse
import os
import signal
import sys
from pathlib import Path

from keras_dl import __version__
from keras_dl.errors import UserError
from keras_dl.startup import import_tensorflow
from keras_dl.values import parse_values


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; the exit status is 0, 1 for a fault, 2 for a wrong input, 130 when it was stopped."""
    options = _parse(arguments)
    # Before TensorFlow is imported: its notes about the processor are not ours to print.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("MPLBACKEND", "Agg")
    signal.signal(signal.SIGTERM, _stop)  # so that runs are closed as for Ctrl-C
    try:
        return options.command(options) or 0
    except UserError as error:
        print(f"keras-dl: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(getattr(options, "stopped", "stopped"), file=sys.stderr)
        return 130


def _parse(arguments):
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    if hasattr(options, "values"):
        # argparse takes the values right behind FILE only, and not behind an option.
        behind, rest = _values(rest)
        options.values = options.values + behind
    if rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    return options


def _values(arguments):
    """What argparse does not know: the values among it, and the rest. `--two-words 3` is another way to say
    `two_words=3`; of one word it would more often be a slip."""
    values, rest, remaining = [], [], iter(arguments)
    for text in remaining:
        name, equals, value = text.partition("=")
        if name.startswith("--") and "-" in name.strip("-"):
            values.append(f"{name[2:].replace('-', '_')}={value if equals else next(remaining, '')}")
        else:
            (rest if text.startswith("-") else values).append(text)
    return values, rest


def _stop(number, frame):
    raise KeyboardInterrupt


def _tune(options):
    options.stopped = "\nstopped. Every finished trial is kept: the same command goes on from here, --fresh begins anew"
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
        from keras_dl.tuning.workers import run_workers

        return run_workers(options.address, path, read_settings(), options.workers, _source(options.data))
    from keras_dl.tuning.lifeline import hold

    hold()  # before the seconds that TensorFlow takes
    from keras_dl.tracking.settings import read_settings

    settings = read_settings()
    import_tensorflow()
    from keras_dl.pipeline import load_pipeline
    from keras_dl.tuning.worker import work

    work(load_pipeline(path), options.address, settings, options.name, _source(options.data))


def _train(options):
    pipeline, values, settings = _pipeline(options)
    from keras_dl.training.train import train

    train(pipeline, values, settings, options.fresh, options.keep)


def _evaluate(options):
    pipeline, values, settings = _pipeline(options)
    from keras_dl.training.evaluate import evaluate

    evaluate(pipeline, options.model, options.split, values, settings)


def _export(options):
    pipeline, values, settings = _pipeline(options)
    from keras_dl.training.evaluate import export_version

    export_version(pipeline, options.model, values, settings)


def _pipeline(options):
    """The pipeline with the options of the command line, the values given, and the settings."""
    path = _pipeline_file(options)
    values = parse_values(options.values)
    from keras_dl.tracking.settings import read_settings

    settings = read_settings()
    import_tensorflow()
    from keras_dl.pipeline import load_pipeline

    pipeline = load_pipeline(path)
    for name in ("epochs", "seed", "objective", "precision", "strategy", "jit"):
        if getattr(options, name, None) is not None:
            setattr(pipeline, name, getattr(options, name))
    pipeline.deterministic |= getattr(options, "deterministic", False)
    pipeline.goal  # noqa: B018  raises for an objective that cannot be understood, before any work
    if options.data:
        pipeline.source = _source(options.data)
    return pipeline, values, settings


def _pipeline_file(options):
    path = Path(options.pipeline)
    if not path.is_file():  # told before the seconds that TensorFlow takes
        raise UserError(f"no pipeline file {path}{_near(path)}")
    return path


def _source(data):
    """What `--data` says, a path made absolute: the model's run remembers it, and may be asked from another folder."""
    return str(Path(data).resolve()) if data and Path(data).exists() else data


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
    from keras_dl.serving.serve import serve
    from keras_dl.tracking.settings import read_settings

    folder = read_settings().saved_models
    there = {path.name: path for path in sorted(folder.glob("*")) if path.is_dir()} if folder.is_dir() else {}
    for name in options.names:
        if name not in there:
            raise UserError(f"no model {name!r} in {folder}. There is: {', '.join(there) or 'none'}")
    chosen = {name: path for name, path in there.items() if not options.names or name in options.names}
    import_tensorflow()
    return serve(chosen, options.host, options.rest_port, options.embedded)


def _predict(options):
    from keras_dl.serving.reading import show_prediction
    from keras_dl.tracking.settings import read_settings

    show_prediction(
        options.name, read_settings(), options.image, options.example, options.input, options.url, options.audio
    )


def _ui(options):
    from keras_dl.tracking.settings import read_settings
    from keras_dl.tracking.ui import ui

    return ui(read_settings(), options.host, options.port, options.name, options.open)


def _promote(options):
    from keras_dl.serving.champion import promote
    from keras_dl.tracking.settings import read_settings

    promote(read_settings(), options.name, options.version)


def _rollback(options):
    from keras_dl.serving.champion import rollback
    from keras_dl.tracking.settings import read_settings

    rollback(read_settings(), options.name)


def _compare(options):
    from keras_dl.serving.comparison import compare
    from keras_dl.tracking.settings import read_settings

    compare(read_settings(), options.name, options.first, options.second)


def _list(options):
    from keras_dl.project import show_project
    from keras_dl.tracking.settings import read_settings

    show_project(read_settings())


def _init(options):
    from keras_dl.project import start_project

    start_project(Path(options.folder))


def _positive(text):
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1. Received: {text}")
    return int(text)


def _count(text):
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number from 0. Received: {text}")
    return int(text)


def _seed(text):
    if not text.isdecimal() or int(text) >= 2**31:
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 to {2**31 - 1}. Received: {text}")
    return int(text)


def _port(text):
    if not text.isdecimal() or not 0 < int(text) < 2**16:
        raise argparse.ArgumentTypeError(f"expected a port from 1 to 65535. Received: {text}")
    return int(text)


def _parser():
    parser = argparse.ArgumentParser(
        "keras-dl", description="Sequence learning: a pipeline file -> a tuned, tracked, registered, served model."
    )
    parser.add_argument("--version", action="version", version=f"keras-dl {__version__}")
    verbs = parser.add_subparsers(metavar="COMMAND", required=True)

    def verb(name, command, help, example):
        sub = verbs.add_parser(name, help=help, description=help, epilog=f"example: keras-dl {example}")
        sub.set_defaults(command=command)
        return sub

    def pipeline_verb(name, command, help, example):
        sub = verb(name, command, help, example)
        sub.add_argument("pipeline", metavar="FILE", help="a pipeline file, such as pipelines/digits_ctc.py")
        sub.add_argument("values", nargs="*", metavar="name=value", help="hyperparameters; a wrong name lists them all")
        sub.add_argument("--data", help="other data, as the pipeline understands it: tfds:NAME, a file or a folder")
        sub.add_argument("--seed", type=_seed, help="of data order, initial weights and the search")
        return sub

    tune = pipeline_verb(
        "tune", _tune, "search the space, track every trial, register and export the best model",
        "tune pipelines/digits_ctc.py --trials 6 batch_size=64",
    )  # fmt: skip
    tune.add_argument("--tuner", choices=["random", "bayesian", "hyperband", "grid"], default="random")
    tune.add_argument("--trials", type=_positive, help="how many at most; the pipeline has a default")
    tune.add_argument("--executions-per-trial", type=_positive, default=1, metavar="N", help="trainings a trial, from "
                      "other initial weights; their mean is the score, their spread the noise")  # fmt: skip
    tune.add_argument("--early-stop", choices=["median", "halving"], help="end trials that fall behind the others")
    tune.add_argument("--max-time", metavar="TIME", help="no trial begins after so long: 90s, 15m, 1.5h")
    tune.add_argument("--resume", action="store_true", help="go on with an unfinished search although trials, time, "
                      "ranges or the file have changed; an unchanged one goes on by itself")  # fmt: skip
    tune.add_argument("--workers", type=_count, default=0, metavar="K", help="processes on this machine, which share "
                      "its cores and GPUs. Default: none, the trials run one after the other")  # fmt: skip
    tune.add_argument("--chief", metavar="HOST:PORT", help="serve workers on other machines too, see keras-dl worker")

    worker = verb(
        "worker", _worker, "run trials of a search whose chief is on another machine",
        "worker 10.0.0.1:9000 pipelines/digits_ctc.py --workers 2",
    )  # fmt: skip
    worker.add_argument("address", metavar="HOST:PORT", help="of keras-dl tune FILE --chief 0.0.0.0:PORT there")
    worker.add_argument("pipeline", metavar="FILE", help="the same file as there")
    worker.add_argument("--workers", type=_positive, default=1, metavar="K", help="processes here. Default: 1")
    worker.add_argument("--data", help="where the data are on this machine. Default: as at the chief")
    worker.add_argument("--name", help=argparse.SUPPRESS)  # of one process, given by those that start it

    train = pipeline_verb(
        "train", _train, "train once, with the defaults or the values given; track, register and export",
        "train pipelines/digits_ctc.py learning_rate=0.004",
    )  # fmt: skip

    for sub in (tune, train):
        sub.add_argument("--epochs", type=_positive, help="of each training; the pipeline has a default")
        sub.add_argument("--objective", help="what the best is: a metric, or several as val_accuracy,val_loss:0.1")
        sub.add_argument("--precision", choices=["float32", "mixed_float16", "mixed_bfloat16"])
        sub.add_argument("--strategy", choices=["none", "mirrored"], help="mirrored: each batch divided among the GPUs")
        sub.add_argument("--jit", choices=["auto", "on", "off"], help="compile with XLA; auto: what the model says")
        sub.add_argument("--deterministic", action="store_true", help="the same bits in every run, slower")
        sub.add_argument(
            "--keep", type=_positive, metavar="N", help="exports to keep beside the champion's; default all"
        )
        sub.add_argument("--fresh", action="store_true", help="throw away what was begun and not finished")

    evaluate = pipeline_verb(
        "evaluate", _evaluate, "metrics of a registered model or a .keras file",
        "evaluate pipelines/digits_ctc.py --model 3 --split validation",
    )  # fmt: skip
    evaluate.add_argument("--split", choices=["train", "validation", "test"], default="test")
    export = pipeline_verb(
        "export", _export, "export a registered version to saved_models/", "export pipelines/digits_ctc.py --model 3"
    )
    for sub, what in (
        (evaluate, "an alias, a version number or a .keras file"),
        (export, "an alias or a version number"),
    ):
        sub.add_argument("--model", default="champion", help=f"{what}. Default: champion")

    again = verb(
        "reproduce", _reproduce, "do a run again and compare every metric; exit status 0 if all are identical",
        "reproduce 0c2f41d0b5a84b6f8d6d1f5f5a3b9c11",
    )  # fmt: skip
    again.add_argument(
        "run", metavar="RUN_ID", help="of a training, a trial, or a search, of which the best trial is taken"
    )
    again.add_argument("file", metavar="FILE", nargs="?", help="the pipeline. Default: pipelines/NAME.py of the run")

    serve = verb("serve", _serve, "serve exported models: TensorFlow Serving's REST API", "serve digits_ctc")
    serve.add_argument("names", nargs="*", metavar="NAME", help="models of saved_models/. Default: all")
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on. Default: this machine only")
    serve.add_argument("--rest-port", type=_port, default=8501, help="default: 8501")
    serve.add_argument(
        "--embedded", action="store_true", help="our own server even if tensorflow_model_server is there"
    )

    predict = verb("predict", _predict, "show what an exported model answers", "predict digits_ctc --example 0")
    predict.add_argument("name", metavar="NAME", help="a model of saved_models/")
    what = predict.add_mutually_exclusive_group(required=True)
    what.add_argument("--image", metavar="FILE", help="a picture; light background is inverted")
    what.add_argument("--audio", metavar="FILE", help="a WAV file of any rate, or - for standard input")
    what.add_argument("--example", type=int, metavar="N", help="the N-th example of the test split, from 0")
    what.add_argument("--input", metavar="JSON", help='the inputs as JSON, such as \'{"prompt": ["def "]}\'')
    predict.add_argument("--url", help="a server. Default: http://127.0.0.1:8501, or no server if none is there")

    ui = verb("ui", _ui, "the MLflow UI on the store of mlflow.yaml", "ui digits_ctc --open")
    ui.add_argument("name", metavar="NAME", nargs="?", help="of a pipeline, to print its page only. Default: all")
    ui.add_argument("--host", help="default: that of mlflow.yaml, 127.0.0.1")
    ui.add_argument("--port", type=_port, help="default: that of mlflow.yaml, 5000")
    ui.add_argument("--open", action="store_true", help="open the page in a browser")

    promote = verb(
        "promote", _promote, "make a version the champion, by hand, and the one that is served", "promote digits_ctc 3"
    )
    promote.add_argument("name", metavar="NAME", help="a registered model")
    promote.add_argument("version", metavar="VERSION", help="a version number or an alias, such as challenger")
    rollback = verb(
        "rollback", _rollback, "back to the champion before, in the registry and in serving", "rollback digits_ctc"
    )
    rollback.add_argument("name", metavar="NAME", help="a registered model")
    compare = verb(
        "compare", _compare, "two versions side by side, and what the champion's rule says", "compare digits_ctc 2 3"
    )
    compare.add_argument("name", metavar="NAME", help="a registered model")
    compare.add_argument("first", metavar="A", nargs="?", help="an alias or a version number. Default: champion")
    compare.add_argument("second", metavar="B", nargs="?", help="the same. Default: challenger, or the champion before")

    verb("list", _list, "pipelines here, registered models, and what is exported and served", "list")
    init = verb("init", _init, "start a project: mlflow.yaml, pipelines/ and saved_models/", "init my_project")
    init.add_argument("folder", nargs="?", default=".", help="default: the current one")
    return parser


if __name__ == "__main__":
    sys.exit(main())
