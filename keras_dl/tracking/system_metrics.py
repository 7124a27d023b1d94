"""CPU, memory, disk, network and GPUs as metrics of a run."""

import contextlib
import os
import threading

from keras_dl.compat.mlflow import SystemMetricsMonitor
from keras_dl.tracking.patience import last_words
from keras_dl.tracking.settings import Settings


@contextlib.contextmanager
def measure(run_id: str, settings: Settings, node: str | None = None):
    """Measures this machine into a run while it is open: CPU, memory, disk, network, and GPUs with nvidia-ml-py.

    Every process that takes part in a search may measure into the one run of the search, each as a node of its own.
    A store that is away costs samples, and nothing else.

    Args:
        run_id: str.
        settings: say whether, and how often; `MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING` wins over them.
        node: str, makes the metrics `system/<node>/...`. None (default) for the only process of a run.
    """
    wanted = os.environ.get("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING")
    if not (settings.system_metrics.enabled if wanted is None else wanted.lower() in ("true", "1")):
        yield
        return
    monitor = SystemMetricsMonitor(run_id, settings.system_metrics.interval, resume_logging=True, node_id=node)
    ended = threading.Event()

    def sample():
        # Not the monitor's own loop, which ends for good when the store fails once.
        while not ended.wait(monitor.sampling_interval):
            with contextlib.suppress(Exception):
                monitor.collect_metrics()
                monitor.publish_metrics(monitor.aggregate_metrics())

    thread = threading.Thread(target=sample, name="system-metrics", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(timeout=2)
        if not thread.is_alive():  # else it waits for the store already
            with last_words(), contextlib.suppress(Exception):
                monitor.mlflow_logger.flush()
