"""What may stand on the command line, and what each of it means."""

import argparse

from keras_dl import __version__


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The options of one command; its name is `verb`. Ends the process with status 2 for what cannot be understood."""
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
    """What argparse does not know: the values among it, and the rest. `--name 3` is another way to say `name=3`."""
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

    def verb(name, help, example):
        sub = verbs.add_parser(name, help=help, description=help, epilog=f"example: keras-dl {example}")
        sub.set_defaults(verb=name)
        return sub

    def pipeline_verb(name, help, example, count=None):
        sub = verb(name, help, example)
        sub.add_argument(
            "pipeline", metavar="FILE", nargs=count, help="a pipeline file, such as pipelines/digits_ctc.py"
        )
        sub.add_argument("values", nargs="*", metavar="name=value", help="hyperparameters; a wrong name lists them all")
        sub.add_argument("--data", help="other data, as the pipeline understands it: tfds:NAME, a file or a folder")
        sub.add_argument("--seed", type=_seed, help="of data order, initial weights and the search")
        return sub

    tune = pipeline_verb(
        "tune", "search the space, track every trial, register and export the best model",
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
        "worker", "run trials of a search whose chief is on another machine",
        "worker 10.0.0.1:9000 pipelines/digits_ctc.py --workers 2",
    )  # fmt: skip
    worker.add_argument("address", metavar="HOST:PORT", help="of keras-dl tune FILE --chief 0.0.0.0:PORT there")
    worker.add_argument("pipeline", metavar="FILE", help="the same file as there")
    worker.add_argument("--workers", type=_positive, default=1, metavar="K", help="processes here. Default: 1")
    worker.add_argument("--data", help="where the data are on this machine. Default: as at the chief")
    worker.add_argument("--name", help=argparse.SUPPRESS)  # of one process, given by those that start it

    train = pipeline_verb(
        "train", "train once, with the defaults or the values given; track, register and export",
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
        "evaluate", "metrics of a registered model or a .keras file",
        "evaluate pipelines/digits_ctc.py --model 3 --split validation",
    )  # fmt: skip
    evaluate.add_argument("--split", choices=["train", "validation", "test"], default="test")
    export = pipeline_verb(
        "export", "export a registered version to saved_models/, or check what is there",
        "export pipelines/digits_ctc.py --model 3; keras-dl export --check saved_models/digits_ctc/3", "?",
    )  # fmt: skip
    export.add_argument("--check", metavar="DIR", help="export nothing: list the traps in this SavedModel, whoever "
                        "made it, and try it; with FILE, compare it with that --model too. Exit status 0 if it can be "
                        "served, 1 if not, 2 if there is none")  # fmt: skip
    for sub, what in (
        (evaluate, "an alias, a version number or a .keras file"),
        (export, "an alias or a version number"),
    ):
        sub.add_argument("--model", default="champion", help=f"{what}. Default: champion")

    again = verb(
        "reproduce", "do a run again and compare every metric; exit status 0 if all are identical",
        "reproduce 0c2f41d0b5a84b6f8d6d1f5f5a3b9c11",
    )  # fmt: skip
    again.add_argument(
        "run", metavar="RUN_ID", help="of a training, a trial, or a search, of which the best trial is taken"
    )
    again.add_argument("file", metavar="FILE", nargs="?", help="the pipeline. Default: pipelines/NAME.py of the run")

    serve = verb(
        "serve", "serve exported models: TensorFlow Serving's REST and gRPC API, and a page to try them",
        "serve digits_ctc",
    )  # fmt: skip
    serve.add_argument("names", nargs="*", metavar="NAME", help="models of saved_models/. Default: all, new ones too")
    serve.add_argument("--config", metavar="FILE", help="serve what TensorFlow Serving's models.config says instead")
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on. Default: this machine only")
    serve.add_argument("--rest-port", type=_port, default=8501, help="default: 8501")
    serve.add_argument("--grpc-port", type=_port, help="default: 8500, where the extra grpc is installed")
    by = serve.add_mutually_exclusive_group()
    by.add_argument(
        "--embedded", action="store_const", const="embedded", dest="by",
        help="our own server even if tensorflow_model_server is there",
    )  # fmt: skip
    by.add_argument(
        "--docker", action="store_const", const="docker", dest="by", help="the image tensorflow/serving, in Docker"
    )
    by.add_argument(
        "--write-config", metavar="DIR", help="serve nothing; write all that TensorFlow Serving needs to DIR: its "
        "configuration, a Compose file, Kubernetes and KServe manifests",
    )  # fmt: skip
    how = serve.add_mutually_exclusive_group()
    how.add_argument(
        "--batching", metavar="FILE", help="TensorFlow Serving's batching_parameters.txt, for every model. Default: "
        "requests that wait are run together where the export says that it changes no answer",
    )  # fmt: skip
    how.add_argument("--no-batching", action="store_true", help="every request is run by itself")
    serve.add_argument(
        "--allow-unsafe", action="store_true", help="our server also takes models that read or write files or run "
        "Python; such a model is a program: know who made it",
    )  # fmt: skip

    predict = verb("predict", "show what an exported model answers", "predict digits_ctc --example 0")
    predict.add_argument("name", metavar="NAME", help="a model of saved_models/")
    what = predict.add_mutually_exclusive_group(required=True)
    what.add_argument("--image", metavar="FILE", help="a picture; light background is inverted")
    what.add_argument("--audio", metavar="FILE", help="a WAV file of any rate, or - for standard input")
    what.add_argument("--example", type=int, metavar="N", help="the N-th example of the test split, from 0")
    what.add_argument("--input", metavar="JSON", help='the inputs as JSON, such as \'{"prompt": ["def "]}\'')
    predict.add_argument("--url", help="a server. Default: http://127.0.0.1:8501, or no server if none is there")

    ui = verb("ui", "the MLflow UI on the store of mlflow.yaml", "ui digits_ctc --open")
    ui.add_argument("name", metavar="NAME", nargs="?", help="of a pipeline, to print its page only. Default: all")
    ui.add_argument("--host", help="default: that of mlflow.yaml, 127.0.0.1")
    ui.add_argument("--port", type=_port, help="default: that of mlflow.yaml, 5000")
    ui.add_argument("--open", action="store_true", help="open the page in a browser")

    promote = verb(
        "promote", "make a version the champion, by hand, and the one that is served", "promote digits_ctc 3"
    )
    promote.add_argument("name", metavar="NAME", help="a registered model")
    promote.add_argument("version", metavar="VERSION", help="a version number or an alias, such as challenger")
    rollback = verb("rollback", "back to the champion before, in the registry and in serving", "rollback digits_ctc")
    rollback.add_argument("name", metavar="NAME", help="a registered model")
    compare = verb("compare", "two versions side by side, and what the champion's rule says", "compare digits_ctc 2 3")
    compare.add_argument("name", metavar="NAME", help="a registered model")
    compare.add_argument("first", metavar="A", nargs="?", help="an alias or a version number. Default: champion")
    compare.add_argument("second", metavar="B", nargs="?", help="the same. Default: challenger, or the champion before")

    verb("list", "pipelines here, registered models, and what is exported and served", "list")
    init = verb("init", "start a project: mlflow.yaml, pipelines/ and saved_models/", "init my_project")
    init.add_argument("folder", nargs="?", default=".", help="default: the current one")
    return parser
