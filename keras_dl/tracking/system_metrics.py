"""CPU, memory, disk, network and GPUs as metrics of a run."""

import contextlib
import logging
import os
import threading

from keras_dl.compat.mlflow import SystemMetricsMonitor, last_words
from keras_dl.errors import reason_of
from keras_dl.tracking.settings import Settings, hide_password

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def measure(run_id: str, settings: Settings, node: str | None = None):
    """Logs system metrics to a run while the context is open: CPU, memory, disk, network, and GPUs with nvidia-ml-py.

    The processes of a distributed search can log to the same run, each as a different node. If the store is unreachable
    or a measurement fails, samples are lost and the first failure is logged as a warning.

    Args:
        run_id: str.
        settings: the `Settings` of the project; `MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING` takes precedence.
        node: str, names the metrics `system/<node>/...`. None (default) for the only process of a run.
    """
    override = os.environ.get("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING")
    if not (settings.system_metrics.enabled if override is None else override.lower() in ("true", "1")):
        yield
        return
    monitor = SystemMetricsMonitor(run_id, settings.system_metrics.interval, resume_logging=True, node_id=node)
    ended = threading.Event()

    def sample():
        # The monitor's own loop stops at the first failure of the store.
        failed = False
        while not ended.wait(monitor.sampling_interval):
            try:
                monitor.collect_metrics()
                monitor.publish_metrics(monitor.aggregate_metrics())
            except Exception as error:
                if not failed:
                    failed = True
                    logger.warning("system metrics could not be logged: %s", hide_password(reason_of(error)))

    thread = threading.Thread(target=sample, name="system-metrics", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(timeout=2)
        if not thread.is_alive():  # otherwise it is still waiting for the store
            with last_words(), contextlib.suppress(Exception):
                monitor.mlflow_logger.flush()
