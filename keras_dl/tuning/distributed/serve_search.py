"""Runs a search on several worker processes, from the chief's side."""

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
    """Runs all trials of an oracle in worker processes; returns when the last has ended.

    Args:
        oracle: oracle of the search, with its state restored if the search is resumed.
        pipeline: `Pipeline`.
        facts: JSON values for the workers: `"search"`, the search's id; `"run_id"` of its MLflow run; and
            `"arguments"`, from `Plan.arguments`.
        folder: folder of the search's state, and of the workers' output: `worker-0.log` and so on.
        workers: int, number of processes on this machine; 0 requires an address.
        address: `"HOST:PORT"`, on which workers on other machines are served; None (default) for this machine only.

    Raises:
        UserError: if the chief cannot listen on the address, or if no worker is left.
    """
    host, port = parse_address(address) if address else ("127.0.0.1", 0)
    names = [f"worker-{index}" for index in range(workers)]
    if not address:
        for gone in set(oracle.ongoing_trials) - set(names):  # of more workers than now
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
