"""The server's REST API as TensorFlow Serving defines it, its OpenAPI description and its web page."""
