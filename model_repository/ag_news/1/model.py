from newsdesk.server.runtime.backend import TritonPythonModel  # noqa: F401
