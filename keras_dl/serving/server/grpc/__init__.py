"""The server's gRPC API as TensorFlow Serving defines it, and gRPC's health service."""
