"""The embedded server: TensorFlow Serving's REST and gRPC APIs in Python, for machines without TensorFlow Serving."""
