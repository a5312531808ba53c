"""Blocking and asyncio code stand beside each other: what both have differs by `await` alone, or is listed here."""

import ast
import inspect
import re
from types import ModuleType

import pytest

from newsdesk.clients import aio, calls, client, gateway, jobs, pool, triton_grpc, triton_http, web

BLOCKING = [
    (r"\b(async|await) ", ""),
    (r"\bAwaitable\[([^\[\]]*)\]", r"\1"),
    (r"\bAsyncKeeper\b", "FeedbackTransport"),
    (r"\bAsync", ""),
    (r"\basyncio\.sleep", "time.sleep"),
    (r"__a(enter|exit)__", r"__\1__"),
]
"""The words of asyncio, and those of blocking code."""


def methods(module: ModuleType, name: str) -> dict[str, list[str]]:
    """Return the methods of a class in blocking words, without comments and docstrings."""
    source = ast.unparse(ast.parse(inspect.getsource(getattr(module, name))))
    for of_asyncio, blocking in BLOCKING:
        source = re.sub(of_asyncio, blocking, source)
    (twin,) = ast.parse(source).body
    assert isinstance(twin, ast.ClassDef)
    written: dict[str, list[str]] = {}
    for node in twin.body:
        if isinstance(node, ast.FunctionDef):
            node.body = node.body[ast.get_docstring(node) is not None :]
            written.setdefault(node.name, []).append(ast.unparse(node))  # an overloaded one stands more than once
    return written


@pytest.mark.parametrize(
    ("name", "blocking", "of_asyncio", "differ"),
    [
        # Connections and threads by process, or connections and tasks by loop.
        ("Client", client, aio, {"__init__", "close", "classify", "_in_order", "_answer", "_here"}),
        ("Calls", calls, calls, {"__init__", "answer", "_landed", "_fly"}),  # locks, or a single thread
        ("GatewayTransport", gateway, gateway, set()),
        ("Jobs", jobs, jobs, {"result", "wait"}),  # no `yield from` and no unpacking of what comes asynchronously
        ("PooledTransport", pool, pool, set()),
        ("GrpcTransport", triton_grpc, triton_grpc, {"__init__", "close", "models", "describe", "infer"}),  # futures
        ("HttpTransport", triton_http, triton_http, set()),
        ("Web", web, web, {"__init__", "close", "call"}),  # urllib3, or aiohttp
    ],
)
def test_methods_differ_by_await_alone(name: str, blocking: ModuleType, of_asyncio: ModuleType, differ: set[str]):
    """A mending of one and not of the other differs. A method that has to differ is listed."""
    twins = methods(blocking, name), methods(of_asyncio, f"Async{name}")
    both = twins[0].keys() & twins[1].keys()
    assert {method for method in both if twins[0][method] != twins[1][method]} == differ


@pytest.mark.parametrize(
    ("blocking", "of_asyncio", "alone"),
    [
        (client.Client, aio.AsyncClient, {"shared_memory", "repeat_interrupted", "lean"}),
        (jobs.Jobs, jobs.AsyncJobs, set()),
    ],
)
def test_callers_give_both_the_same_arguments(blocking: type, of_asyncio: type, alone: set[str]):
    def arguments(of: type) -> dict[str, list[tuple[str, object, object]]]:
        methods = {
            name: method
            for name, method in inspect.getmembers(of, inspect.isfunction)
            if name == "__init__" or not name.startswith("_")
        }
        return {
            name: [
                (parameter.name, parameter.kind, parameter.default)
                for parameter in inspect.signature(method).parameters.values()
                if parameter.name not in alone
            ]
            for name, method in methods.items()
        }

    assert len(arguments(blocking)) > 5
    assert arguments(of_asyncio) == arguments(blocking)
