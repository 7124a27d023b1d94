"""The command line: verbs, options and hyperparameter values."""

import argparse

from keras_dl import __version__
from keras_dl.errors import UserError


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parses a command line; the verb is in `verb`. Invalid arguments end the process with status 2."""
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    if hasattr(options, "values"):
        # argparse accepts the values only directly after FILE, not after an option.
        later, rest = _values(rest)
        options.values = options.values + later
    if rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    return options


def _values(arguments):
    """Divides unknown arguments into values and the rest. `--name 3` is equivalent to `name=3`."""
    values, rest, remaining = [], [], list(arguments)
    while remaining:
        text = remaining.pop(0)
        name, equals, value = text.partition("=")
        if not name.startswith("--"):
            (rest if text.startswith("-") else values).append(text)
        elif equals or (remaining and not remaining[0].startswith("--")):
            values.append(f"{name[2:].replace('-', '_')}={value if equals else remaining.pop(0)}")
        else:
            rest.append(text)
    return values, rest


def parse_values(arguments: list[str]) -> dict:
    """Parses `["learning_rate=3e-4", "units[0]=8"]` into `{"learning_rate": "3e-4", "units[0]": "8"}`.

    The values are read as the types of their hyperparameters later, by `keras_dl.space.space`.

    Raises:
        UserError: if an argument is not `name=value`.
    """
    values = {}
    for argument in arguments:
        name, equals, text = argument.partition("=")
        if not equals or not name.strip() or name.startswith("-"):
            raise UserError(f"expected name=value, such as learning_rate=0.001. Received: {argument!r}")
        values[name] = text
    return values


def _positive(text):
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1. Received: {text}")
    return int(text)


def _count(text):
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 0. Received: {text}")
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
        "keras-dl",
        description="Sequence learning: from a pipeline file to a tuned, tracked, registered and served model.",
    )
    parser.add_argument("--version", action="version", version=f"keras-dl {__version__}")
    verbs = parser.add_subparsers(metavar="COMMAND", required=True)

    def verb(name, help, example):
        sub = verbs.add_parser(name, help=help, description=help, epilog=f"example: keras-dl {example}")
        sub.set_defaults(verb=name)
        return sub

    def pipeline_verb(name, help, example, count=None):
        sub = verb(name, help, example)
        sub.add_argument(
            "pipeline", metavar="FILE", nargs=count, help="a pipeline file, such as pipelines/digits_ctc.py"
        )
        sub.add_argument(
            "values", nargs="*", metavar="name=value", help="hyperparameters; an unknown name lists all of them"
        )
        sub.add_argument("--data", help="data to use instead: tfds:NAME, a file or a folder, depending on the pipeline")
        sub.add_argument("--seed", type=_seed, help="seed for the data order, the initial weights and the search")
        return sub

    tune = pipeline_verb(
        "tune", "tune the hyperparameters, track every trial, register and export the best model",
        "tune pipelines/digits_ctc.py --trials 6 batch_size=64",
    )  # fmt: skip
    tune.add_argument("--tuner", choices=["random", "bayesian", "hyperband", "grid"], default="random",
                      help="search strategy. Default: random")  # fmt: skip
    tune.add_argument("--trials", type=_positive, help="maximum number of trials. Default: set by the pipeline")
    tune.add_argument("--executions-per-trial", type=_positive, default=1, metavar="N", help="training runs per trial "
                      "with different initial weights; the score is their mean. Default: 1")  # fmt: skip
    tune.add_argument("--early-stop", choices=["median", "halving"], help="end trials that fall behind the others")
    tune.add_argument("--max-time", metavar="TIME", help="start no trial after this time, such as 90s, 15m or 1.5h")
    tune.add_argument("--resume", action="store_true", help="resume an unfinished search even if trials, time, ranges "
                      "or the file have changed; an unchanged search resumes without this option")  # fmt: skip
    tune.add_argument("--workers", type=_count, default=0, metavar="K", help="worker processes on this machine, "
                      "which share its cores and GPUs. Default: 0, trials run in this process")  # fmt: skip
    tune.add_argument("--chief", metavar="HOST:PORT", help="also serve workers on other machines (see keras-dl worker)")

    worker = verb(
        "worker", "run trials of a search that was started on another machine",
        "worker 10.0.0.1:9000 pipelines/digits_ctc.py --workers 2",
    )  # fmt: skip
    worker.add_argument(
        "address", metavar="HOST:PORT", help="address of the machine where keras-dl tune FILE --chief 0.0.0.0:PORT runs"
    )
    worker.add_argument("pipeline", metavar="FILE", help="a copy of the same pipeline file")
    worker.add_argument(
        "--workers", type=_positive, default=1, metavar="K", help="worker processes on this machine. Default: 1"
    )
    worker.add_argument("--data", help="location of the data on this machine. Default: as on the other machine")
    worker.add_argument("--name", help=argparse.SUPPRESS)  # set by the parent process

    train = pipeline_verb(
        "train", "train once, with default or given values; track, register and export the model",
        "train pipelines/digits_ctc.py learning_rate=0.004",
    )  # fmt: skip

    for sub in (tune, train):
        sub.add_argument("--epochs", type=_positive, help="epochs of each training run. Default: set by the pipeline")
        sub.add_argument("--objective", help="the metric to improve, or several, such as val_accuracy,val_loss:0.1")
        sub.add_argument("--precision", choices=["float32", "mixed_float16", "mixed_bfloat16"],
                         help="numerical precision. Default: set by the pipeline, else float32")  # fmt: skip
        sub.add_argument("--strategy", choices=["none", "mirrored"], help="mirrored: divide each batch among the GPUs")
        sub.add_argument(
            "--jit", choices=["auto", "on", "off"], help="compile with XLA; auto: keep the model's setting"
        )
        sub.add_argument(
            "--deterministic", action="store_true", default=None, help="identical results in every run; slower"
        )
        sub.add_argument(
            "--keep", type=_positive, metavar="N", help="exports to keep besides the champion's. Default: all"
        )
        sub.add_argument("--fresh", action="store_true", help="discard an unfinished run and start over")

    evaluate = pipeline_verb(
        "evaluate", "print the metrics of a registered model or a .keras file",
        "evaluate pipelines/digits_ctc.py --model 3 --split validation",
    )  # fmt: skip
    evaluate.add_argument("--split", choices=["train", "validation", "test"], default="test", help="default: test")
    export = pipeline_verb(
        "export", "export a registered version to saved_models/, or check an existing export",
        "export pipelines/digits_ctc.py --model 3; keras-dl export --check saved_models/digits_ctc/3", "?",
    )  # fmt: skip
    export.add_argument("--check", metavar="DIR", help="do not export; list the problems in any SavedModel and test "
                        "it. With FILE, compare it with --model too. Exit status 0 if it can be served, 1 if not, 2 if "
                        "it does not exist")  # fmt: skip
    for sub, what in (
        (evaluate, "an alias, a version number or a .keras file"),
        (export, "an alias or a version number"),
    ):
        sub.add_argument("--model", default="champion", help=f"{what}. Default: champion")

    again = verb(
        "reproduce", "repeat a run and compare every metric; exit status 0 if all are identical",
        "reproduce 0c2f41d0b5a84b6f8d6d1f5f5a3b9c11",
    )  # fmt: skip
    again.add_argument("run", metavar="RUN_ID", help="a training run, trial or search (its best trial is repeated)")
    again.add_argument("file", metavar="FILE", nargs="?", help="the pipeline. Default: pipelines/NAME.py of the run")

    serve = verb(
        "serve", "serve exported models with TensorFlow Serving's REST and gRPC APIs, and a web page to try them",
        "serve digits_ctc",
    )  # fmt: skip
    serve.add_argument(
        "names", nargs="*", metavar="NAME", help="models in saved_models/. Default: all, including later ones"
    )
    serve.add_argument(
        "--config", metavar="FILE", help="serve the models of a TensorFlow Serving models.config instead"
    )
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on. Default: this machine only")
    serve.add_argument("--rest-port", type=_port, default=8501, help="default: 8501")
    serve.add_argument("--grpc-port", type=_port, help="default: 8500, if the grpc extra is installed")
    by = serve.add_mutually_exclusive_group()
    by.add_argument(
        "--embedded", action="store_const", const="embedded", dest="by",
        help="use the built-in server even if tensorflow_model_server is installed",
    )  # fmt: skip
    by.add_argument(
        "--docker", action="store_const", const="docker", dest="by", help="use the Docker image tensorflow/serving"
    )
    by.add_argument(
        "--write-config", metavar="DIR", help="do not serve; write the files that TensorFlow Serving needs to DIR: "
        "its configuration, a Compose file, Kubernetes and KServe manifests",
    )  # fmt: skip
    how = serve.add_mutually_exclusive_group()
    how.add_argument(
        "--batching", metavar="FILE", help="TensorFlow Serving's batching_parameters.txt, for every model. Default: "
        "batch waiting requests if the export states that this does not change the answers",
    )  # fmt: skip
    how.add_argument("--no-batching", action="store_true", help="run each request separately")
    serve.add_argument(
        "--allow-unsafe", action="store_true", help="also serve models that access files or run Python; such a model "
        "is a program, so trust its author",
    )  # fmt: skip

    predict = verb(
        "predict", "send a request to an exported model and print the answer", "predict digits_ctc --example 0"
    )
    predict.add_argument("name", metavar="NAME", help="a model in saved_models/")
    what = predict.add_mutually_exclusive_group(required=True)
    what.add_argument("--image", metavar="FILE", help="a picture; a light background is inverted")
    what.add_argument("--audio", metavar="FILE", help="a WAV file of any sample rate, or - for standard input")
    what.add_argument("--example", type=int, metavar="N", help="the N-th example of the test split, counted from 0")
    what.add_argument("--input", metavar="JSON", help='the inputs as JSON, such as \'{"prompt": ["def "]}\'')
    predict.add_argument(
        "--url", help="a server. Default: http://127.0.0.1:8501 if one is running there, else the export is loaded"
    )

    ui = verb("ui", "start the MLflow UI for the store in mlflow.yaml", "ui digits_ctc --open")
    ui.add_argument("name", metavar="NAME", nargs="?", help="print the page of this pipeline. Default: all")
    ui.add_argument("--host", help="default: set by mlflow.yaml, else 127.0.0.1")
    ui.add_argument("--port", type=_port, help="default: set by mlflow.yaml, else 5000")
    ui.add_argument("--open", action="store_true", help="open the page in a browser")

    promote = verb("promote", "make a version the champion, in the registry and in serving", "promote digits_ctc 3")
    promote.add_argument("name", metavar="NAME", help="a registered model")
    promote.add_argument("version", metavar="VERSION", help="a version number or an alias, such as challenger")
    rollback = verb("rollback", "restore the previous champion, in the registry and in serving", "rollback digits_ctc")
    rollback.add_argument("name", metavar="NAME", help="a registered model")
    compare = verb(
        "compare", "show two versions side by side, and the verdict of the champion rule", "compare digits_ctc 2 3"
    )
    compare.add_argument("name", metavar="NAME", help="a registered model")
    compare.add_argument("first", metavar="A", nargs="?", help="an alias or a version number. Default: champion")
    compare.add_argument("second", metavar="B", nargs="?", help="like A. Default: challenger, or the previous champion")

    verb("list", "list pipelines, registered models, exports and served models", "list")
    init = verb("init", "start a project: mlflow.yaml, pipelines/ and saved_models/", "init my_project")
    init.add_argument("folder", nargs="?", default=".", help="default: the current folder")
    init.add_argument(
        "--pipeline", metavar="NAME", nargs="?", const="", default="waves", help="the pipeline to start with. Default: "
        "waves, a small example. Without a NAME: list all pipelines that come with keras-dl",
    )  # fmt: skip
    return parser
