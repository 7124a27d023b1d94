"""A chief process with workers that sleep: sleeping_chief.py FOLDER PORT TRIALS WORKERS."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from served import new_chief, new_oracle  # noqa: E402

from keras_dl.tuning.distributed.supervisor import Supervisor  # noqa: E402

folder, (port, trials, workers) = Path(sys.argv[1]), map(int, sys.argv[2:])
oracle = new_oracle(folder, trials, reload=(folder / "oracle.json").exists())
command = [sys.executable, str(Path(__file__).with_name("sleeping_worker.py")), f"127.0.0.1:{port}"]
with new_chief(oracle, port, lease=10.0) as chief:
    names = [f"worker-{index}" for index in range(workers)]
    with Supervisor(command, names, folder, gone=chief.release) as supervisor:
        print("serving", flush=True)
        chief.wait(supervisor if names else None)
