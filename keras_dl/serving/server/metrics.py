"""The server's counters and histograms, with TensorFlow Serving's names, in Prometheus' text format.

Names, labels and buckets are those of ``servables/tensorflow/util.cc``, ``batching/batching_util.h`` and
``batching/batching_session.cc`` of https://github.com/tensorflow/serving; the format is that of
``util/prometheus_exporter.cc``: no ``_total`` suffix for counters, and all times in microseconds. Dashboards made for
TensorFlow Serving keep working. (``prometheus_client`` can parse this format, but not write it.)
"""

import bisect
import threading
from collections.abc import Callable, Iterable

METRICS_PATH = "/monitoring/prometheus/metrics"
_PREFIX = ":tensorflow:serving:"
_REST_APIS = {"Predict": "predict", "Classify": "classify", "Regress": "regress"}


def _exponential(scale: float, growth: float, count: int) -> tuple[float, ...]:
    bounds = [scale]
    while len(bounds) < count:
        bounds.append(bounds[-1] * growth)
    return tuple(bounds)


_LATENCIES = _exponential(10, 1.8, 33)  # microseconds: 10 us to 25 minutes
_QUEUING_LATENCIES = _exponential(100, 1.2, 52)
_SIZES = _exponential(1, 2, 14)


class _Counter:
    """Counts events for each combination of labels."""

    kind = "counter"

    def __init__(self, name: str, labels: tuple[str, ...]):
        self.name, self.labels, self.cells = _PREFIX + name, labels, {}

    def add(self, values: tuple[str, ...]) -> None:
        self.cells[values] = self.cells.get(values, 0) + 1

    def lines(self) -> Iterable[str]:
        for values, count in self.cells.items():
            yield f"{self.name}{{{_label_text(self.labels, values)}}} {count}"


class _Histogram:
    """For each combination of labels, counts values per bucket and sums them."""

    kind = "histogram"

    def __init__(self, name: str, labels: tuple[str, ...], bounds: tuple[float, ...]):
        self.name, self.labels, self.bounds, self.cells = _PREFIX + name, labels, bounds, {}

    def add(self, values: tuple[str, ...], value: float) -> None:
        cell = self.cells.get(values)
        if cell is None:
            cell = self.cells[values] = ([0] * (len(self.bounds) + 1), [0.0])
        counts, total = cell
        # A value equal to a bound falls into the bucket above it, as in TensorFlow's histograms.
        counts[bisect.bisect_right(self.bounds, value)] += 1
        total[0] += value

    def lines(self) -> Iterable[str]:
        for values, (counts, (total,)) in self.cells.items():
            labels = _label_text(self.labels, values)
            before = f"{labels}," if labels else ""
            count = 0
            for bound, more in zip((*(f"{bound:g}" for bound in self.bounds), "+Inf"), counts, strict=True):
                count += more
                yield f'{self.name}_bucket{{{before}le="{bound}"}} {count}'
            yield f"{self.name}_sum{{{labels}}} {total!r}"
            yield f"{self.name}_count{{{labels}}} {count}"


class Metrics:
    """The metrics of a server since its start. Thread-safe; recording a value takes about a microsecond.

    Only known model names become labels (see `follow`); all others are counted under ``""``, so that requests for
    unknown models cannot create an unlimited number of lines.
    """

    def __init__(self):
        self._lock = threading.Lock()
        self._names: Callable[[], Iterable[str]] = tuple
        self._requests = _Counter("request_count", ("model_name", "status"))
        self._latency = _Histogram("request_latency", ("model_name", "API", "entrypoint"), _LATENCIES)
        self._runtime = _Histogram("runtime_latency", ("model_name", "API", "runtime"), _LATENCIES)
        self._input_sizes = _Histogram("batching_session:input_batch_size", (), _SIZES)
        self._batch_sizes = _Histogram("batching_session:processed_batch_size", (), _SIZES)
        self._paddings = _Histogram("batching_session:padding_size", ("execution_batch_size",), _SIZES)
        self._queuing = _Histogram("batching_session:queuing_latency", ("thread_pool_name",), _QUEUING_LATENCIES)
        self._runs = _Counter("batching_session:wrapped_run_count", ())
        self._all = (
            self._batch_sizes,
            self._input_sizes,
            self._paddings,
            self._queuing,
            self._runs,
            self._requests,
            self._latency,
            self._runtime,
        )

    def follow(self, names: Callable[[], Iterable[str]]) -> None:
        """Sets the function that returns the known model names, which may become labels."""
        self._names = names

    def request(self, model_name: str, api: str, entrypoint: str, code: str, seconds: float) -> None:
        """Records an answered request. As in TensorFlow Serving, the latency of a failed one is not recorded.

        Args:
            model_name: the name in the request.
            api: "Predict", "Classify", "Regress", "MultiInference" or "GetModelMetadata".
            entrypoint: "REST" or "GRPC".
            code: canonical name of the status, such as "OK" or "INVALID_ARGUMENT".
            seconds: time from the first byte of the request to its answer.
        """
        if entrypoint == "REST":  # TensorFlow Serving uses the method in the path, or "" without one
            api = _REST_APIS.get(api, "")
        with self._lock:
            name = self._known(model_name)
            self._requests.add((name, code))
            if code == "OK":
                self._latency.add((name, api, entrypoint), seconds * 1e6)

    def runtime(self, model_name: str, api: str, seconds: float) -> None:
        """Records the time that TensorFlow needed for a request, including its wait for a batch."""
        with self._lock:
            self._runtime.add((self._known(model_name), api, "TF1"), seconds * 1e6)

    def batch(self, sizes: list[int], padding: int, waits: list[float]) -> None:
        """Records a batch.

        Args:
            sizes: number of rows of each request in it.
            padding: number of rows added to reach an allowed size.
            waits: seconds that each request waited for the batch.
        """
        size = sum(sizes) + padding
        with self._lock:
            for rows, seconds in zip(sizes, waits, strict=True):
                self._input_sizes.add((), rows)
                self._queuing.add(("batch_threads",), seconds * 1e6)
            self._batch_sizes.add((), size)
            self._paddings.add((str(size),), padding)
            self._runs.add(())

    def render(self) -> bytes:
        """Returns all metrics in Prometheus' text format."""
        lines = []
        with self._lock:
            for metric in self._all:
                lines.append(f"# TYPE {metric.name} {metric.kind}")
                lines += metric.lines()
        return ("\n".join(lines) + "\n").encode()

    def _known(self, model_name: str) -> str:
        return model_name if model_name in self._names() else ""


def _label_text(labels: tuple[str, ...], values: tuple[str, ...]) -> str:
    return ",".join(f'{label}="{_escaped(value)}"' for label, value in zip(labels, values, strict=True))


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
