"""gRPC's health service: "" stands for all models, and each model has its own name.

Source: https://github.com/grpc/grpc/blob/master/doc/health-checking.md; ``model_servers/server.cc`` of TensorFlow
Serving names its two services, which are as healthy as the whole.
"""

import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
from grpc_health.v1 import health, health_pb2

# Of whoever asks for the state of things: the others may all be waiting for slow models. gRPC looks for them by name.
THREADS = ThreadPoolExecutor(4, "grpc-state")
_EVERYTHING = ("", "ModelService", "PredictionService")
_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


class Health(health.HealthServicer):
    """Tells of a store what is loaded. A check looks at it; watchers are told by `refresh`, without a thread of theirs.

    Args:
        store: `ModelStore`.
        draining: set when the server is about to end: nothing is healthy then.
    """

    def __init__(self, store, draining: threading.Event):
        super().__init__(experimental_thread_pool=THREADS)
        self._store, self._draining = store, draining
        self._told: dict[str, int] = {}
        self._watches: set[grpc.ServicerContext] = set()
        self.refresh()

    def refresh(self) -> None:
        """Tells watchers what has changed; their calls end with the server, which else would wait for them."""
        now = self._now()
        for name in self._told.keys() - now.keys():
            self.set(name, _UNKNOWN)
        for name, status in now.items():
            if self._told.get(name) != status:
                self.set(name, status)
        self._told = now
        if self._draining.is_set():
            for context in list(self._watches):
                context.cancel()

    def Check(self, request, context):  # noqa: N802, the service's own name
        """The state of a name at this moment."""
        status = self._now().get(request.service)
        if status is None:
            context.abort(grpc.StatusCode.NOT_FOUND, f"unknown service {request.service}")
        return health_pb2.HealthCheckResponse(status=status)

    Check.experimental_thread_pool = THREADS

    def Watch(self, request, context, send_response_callback=None):  # noqa: N802
        """The state of a name, and each that follows it."""
        self._watches.add(context)
        context.add_callback(lambda: self._watches.discard(context))
        return super().Watch(request, context, send_response_callback)

    def _now(self) -> dict[str, int]:
        names, ends = self._store.names(), self._draining.is_set()
        missing = names if ends else self._store.unavailable()
        everything = _NOT_SERVING if missing or ends or not self._store.polled.is_set() else _SERVING
        models = {name: _NOT_SERVING if name in missing else _SERVING for name in names}
        return dict.fromkeys(_EVERYTHING, everything) | models
