"""Encrypted connections, ended before a real Triton and a real gateway as a proxy does it."""

import asyncio
import contextlib
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from newsdesk.clients import AsyncClient, Client, ServerUnavailable
from tests.clients.triton_process import Ports


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of 127.0.0.1 that nobody but its owner has signed, with its key beside it."""
    folder = tmp_path_factory.mktemp("tls")
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=127.0.0.1"
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", folder / "key.pem", "-out", folder / "cert.pem"]
    subprocess.run([*command.split(), *names], check=True, capture_output=True)
    return folder / "cert.pem"


@pytest.fixture
def encrypted(certificate: Path) -> Iterator[Callable[[int], int]]:
    """Return port → the port of a proxy before it that speaks TLS."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, certificate.with_name("key.pem"))
    context.set_alpn_protocols(["h2", "http/1.1"])
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def proxy(port: int) -> int:
        async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
            await asyncio.gather(copy(reader, inner_writer), copy(inner_reader, writer))

        listening = socket.create_server(("127.0.0.1", 0))
        serving = asyncio.start_server(relay, sock=listening, ssl=context)
        asyncio.run_coroutine_threadsafe(serving, loop).result(10)
        return listening.getsockname()[1]

    yield proxy

    async def end() -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run_coroutine_threadsafe(end(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(2**16):
            writer.write(data)
            await writer.drain()
    writer.close()


@pytest.mark.parametrize("scheme", ["grpcs", "https", "gateway+https"])
def test_what_is_encrypted_is_checked(
    scheme: str, encrypted: Callable[[int], int], certificate: Path, triton: Ports, gateway: str
) -> None:
    behind = {"grpcs": triton.grpc, "https": triton.http, "gateway+https": int(gateway.rsplit(":", 1)[1])}[scheme]
    port = encrypted(behind)
    url = f"{scheme}://127.0.0.1:{port}"
    with Client(url, ca_file=certificate, timeout=20) as client:
        assert client.classify("match").label == "Sports"

    async def ask() -> str:
        async with AsyncClient(url, ca_file=certificate, timeout=20) as client:
            return (await client.classify("match")).label

    assert asyncio.run(ask()) == "Sports"
    with Client(url, timeout=3, retries=0) as client, pytest.raises(ServerUnavailable):  # the system doesn't trust it
        client.classify("match")
    other_name = f"{scheme}://localhost:{port}"
    with Client(other_name, ca_file=certificate, timeout=3, retries=0) as client, pytest.raises(ServerUnavailable):
        client.classify("match")
