from newsdesk.server.ensemble.backend import TritonPythonModel  # noqa: F401
