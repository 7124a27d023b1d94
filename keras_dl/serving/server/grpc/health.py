"""gRPC's health service: one name per model, and "" for all models.

Source: https://github.com/grpc/grpc/blob/master/doc/health-checking.md. The names of the two services in
``model_servers/server.cc`` of TensorFlow Serving have the status of "".
"""

import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
from grpc_health.v1 import health, health_pb2

# Threads for status requests: all others may be waiting for slow models. gRPC finds them by attribute name.
THREADS = ThreadPoolExecutor(4, "grpc-state")
_ALL_MODELS = ("", "ModelService", "PredictionService")
_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


class Health(health.HealthServicer):
    """Reports which models of a store are loaded. Watchers are notified by `refresh` and occupy no threads.

    Args:
        store: `ModelStore`.
        draining: set when the server is shutting down: all names are then NOT_SERVING.
    """

    def __init__(self, store, draining: threading.Event):
        super().__init__(experimental_thread_pool=THREADS)
        self._store, self._draining = store, draining
        self._published: dict[str, int] = {}
        self._watches: set[grpc.ServicerContext] = set()
        self.refresh()

    def refresh(self) -> None:
        """Notifies watchers of changes. During the shutdown, it cancels their calls, which would block the shutdown."""
        now = self._now()
        for name in self._published.keys() - now.keys():
            self.set(name, _UNKNOWN)
        for name, status in now.items():
            if self._published.get(name) != status:
                self.set(name, status)
        self._published = now
        if self._draining.is_set():
            for context in list(self._watches):
                context.cancel()

    def Check(self, request, context):  # noqa: N802, the service's own name
        """Returns the current status of a name."""
        status = self._now().get(request.service)
        if status is None:
            context.abort(grpc.StatusCode.NOT_FOUND, f"unknown service {request.service}")
        return health_pb2.HealthCheckResponse(status=status)

    Check.experimental_thread_pool = THREADS

    def Watch(self, request, context, send_response_callback=None):  # noqa: N802
        """Streams the status of a name."""
        self._watches.add(context)
        context.add_callback(lambda: self._watches.discard(context))
        return super().Watch(request, context, send_response_callback)

    def _now(self) -> dict[str, int]:
        names, draining = self._store.names(), self._draining.is_set()
        missing = names if draining else self._store.unavailable()
        all_models = _NOT_SERVING if missing or draining or not self._store.polled.is_set() else _SERVING
        models = {name: _NOT_SERVING if name in missing else _SERVING for name in names}
        return dict.fromkeys(_ALL_MODELS, all_models) | models
