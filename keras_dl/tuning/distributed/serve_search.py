"""A search on several worker processes: the chief's side."""

import sys
from pathlib import Path

import keras_tuner as kt

from keras_dl.pipeline import Pipeline
from keras_dl.tuning.distributed.address import parse_address
from keras_dl.tuning.distributed.chief import Chief
from keras_dl.tuning.distributed.protocol import identity
from keras_dl.tuning.distributed.supervisor import Supervisor
from keras_dl.tuning.distributed.workers import worker_command


def serve_search(
    oracle: kt.Oracle, pipeline: Pipeline, facts: dict, folder: Path, workers: int, address: str | None = None
) -> None:
    """Has all trials of an oracle run by worker processes; returns when the last has ended.

    Args:
        oracle: of the search, reloaded if it goes on.
        pipeline: `Pipeline`.
        facts: what workers must know, as JSON can say it: `"search"`, the search's id; `"run_id"` of its MLflow run;
            `"arguments"`, see `Plan.arguments`; and whatever `run_worker` needs.
        folder: of the search's state; the workers' output goes to `worker-0.log` and so on there.
        workers: int, processes on this machine; may be 0 with an address.
        address: `"HOST:PORT"` to serve workers of other machines at; None (default) serves this machine only.

    Raises:
        UserError: for an address that cannot be taken, and when no worker could go on.
    """
    host, port = parse_address(address) if address else ("127.0.0.1", 0)
    names = [f"worker-{index}" for index in range(workers)]
    if not address:
        for gone in set(oracle.ongoing_trials) - set(names):  # there were more workers; nobody else can come
            oracle.release(gone)
    with Chief(oracle, host, port, {**identity(pipeline), **facts}) as chief:
        if address:
            print(
                f"chief at {host}:{chief.port}; on each other machine: "
                f"keras-dl worker THIS_MACHINE:{chief.port} {pipeline.file.name}",
                file=sys.stderr,
                flush=True,
            )
        everywhere = host in ("0.0.0.0", "[::]", "localhost")
        command = worker_command(f"{'127.0.0.1' if everywhere else host}:{chief.port}", pipeline.file)
        with Supervisor(command, names, folder, gone=chief.release) as supervisor:
            chief.wait(supervisor if names else None)
