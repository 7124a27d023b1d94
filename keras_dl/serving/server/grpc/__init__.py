"""TensorFlow Serving's gRPC API, and gRPC's health service."""
