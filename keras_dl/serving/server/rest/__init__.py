"""TensorFlow Serving's REST API, its OpenAPI description, and the web page."""
