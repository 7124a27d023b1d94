"""The embedded server: TensorFlow Serving's REST API in this process, for laptops, tests and places without it."""
