"""Models as services: export, a server that speaks TensorFlow Serving's REST API, and its client."""
