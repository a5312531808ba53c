"""Texts handed to a Triton on the same host by system shared memory, over gRPC.

A region is registered with Triton once and used by one request at a time. Its file in /dev/shm is removed as soon as
Triton has mapped it, so that a client that is killed leaves no file; what one leaves that is killed before that, a
later client removes. A name holds the process and 64 random bits, so that no other client, or a later one, meets it. A
region whose request ended without an answer may still be read: it is never written to again, and unregistered once
Triton, which refuses to while it is in use, is done with it. Regions are unregistered one by one, by name: a request
without a name would unregister everybody's.
https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_shared_memory.md
"""

import contextlib
import mmap
import os
import secrets
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
from tritonclient.grpc import service_pb2

from newsdesk.clients.errors import unavailable
from newsdesk.server.contract import TEXT

_SHM = Path("/dev/shm")
_PREFIX = "newsdesk-client-"
_SMALLEST = 64 * 1024
_CLOSE_SECONDS = 2.0
_SWEEP_SECONDS = 0.5
# By far longer than a registration takes. Not whether its process lives: that may be another container's.
_LEFT_BEHIND_SECONDS = 600.0
_IN_USE = "currently in use"
# After these the server may still have the request.
_UNANSWERED = (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE)


class Region:
    """Shared memory of this process's: `size` bytes under a name of their own.

    Raises:
        OSError: /dev/shm has no room.
    """

    def __init__(self, size: int) -> None:
        self.name = f"{_PREFIX}{os.getpid()}-{secrets.token_hex(8)}"
        self.size = size
        self._file = _SHM / self.name
        opened = os.open(self._file, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        try:
            os.posix_fallocate(opened, 0, size)  # else a full /dev/shm would be a SIGBUS later
            self._bytes = mmap.mmap(opened, size)
        except OSError:
            self.unlink()
            raise
        finally:
            os.close(opened)

    def write(self, data: bytes) -> None:
        """Write to its start."""
        self._bytes[: len(data)] = data

    def unlink(self) -> None:
        """Remove its name."""
        self._file.unlink(missing_ok=True)

    def close(self) -> None:
        """Give the memory back."""
        self._bytes.close()


class Regions:
    """The regions of one channel, for any number of threads; as many as there are requests at once."""

    def __init__(self, stub: Any, url: str) -> None:
        self._stub, self._url = stub, url
        self._free: list[Region] = []
        self._parting: list[Region] = []
        self._swept = time.monotonic()
        self._lock = threading.Lock()
        self._off = False
        _remove_left_behind()

    @contextlib.contextmanager
    def shared(self, request: service_pb2.ModelInferRequest, timeout: float) -> Iterator[None]:
        """Move the request's texts into a region while it is sent.

        Args:
            request: is changed
            timeout: seconds

        Raises:
            grpc.RpcError: the request failed.
            ServerUnavailable: the server has forgotten the region.
        """
        place = [tensor.name for tensor in request.inputs].index(TEXT)
        data = request.raw_input_contents[place]
        region = self._lend(len(data), timeout)
        if region is None:
            yield
            return
        region.write(data)
        del request.raw_input_contents[place]
        parameters = request.inputs[place].parameters
        parameters["shared_memory_region"].string_param = region.name
        parameters["shared_memory_byte_size"].int64_param = len(data)
        try:
            yield
        except grpc.RpcError as error:
            if "shared memory region" in (error.details() or ""):  # it was started again
                region.close()
                raise unavailable(self._url, error.details()) from error
            if error.code() in _UNANSWERED:
                self._drop(region)
            else:
                self._give_back(region)
            raise
        except BaseException:
            self._drop(region)
            raise
        self._give_back(region)

    def close(self) -> None:
        """Unregister all, those in use too where their requests end soon."""
        end = time.monotonic() + _CLOSE_SECONDS
        while self._free:
            self._drop(self._free.pop())
        while self._parting and time.monotonic() < end:
            time.sleep(_SWEEP_SECONDS / 5)
            self._sweep()

    def _lend(self, size: int, timeout: float) -> Region | None:
        """Return a region of at least `size` bytes, or None where none can be shared with the server."""
        if self._off:
            return None
        with self._lock:
            fits = next((region for region in self._free if region.size >= size), None)
            outgrown = None if fits or not self._free else self._free[0]
            if region := fits or outgrown:
                self._free.remove(region)
        if self._parting and time.monotonic() - self._swept > _SWEEP_SECONDS:
            self._sweep()
        if outgrown:
            self._drop(outgrown)
        return fits or self._register(max(_SMALLEST, 1 << (size - 1).bit_length()), timeout)

    def _register(self, size: int, timeout: float) -> Region | None:
        try:
            region = Region(size)
        except OSError as error:
            return self._fall_back(str(error))
        asked = service_pb2.SystemSharedMemoryRegisterRequest(name=region.name, key=f"/{region.name}", byte_size=size)
        try:
            self._stub.SystemSharedMemoryRegister(asked, timeout=timeout)
        except grpc.RpcError as error:
            region.close()
            details = error.details() or "no details"
            if error.code() in _UNANSWERED and "restricted" not in details:
                raise
            return self._fall_back(details)
        finally:
            region.unlink()
        return region

    def _fall_back(self, reason: str) -> Region | None:
        with self._lock:
            first, self._off = not self._off, True
        if first:
            warnings.warn(
                f"{self._url} shares no memory with this client ({reason}): texts are sent over the connection. Shared "
                "memory needs the same host and /dev/shm, the same user, and a server that does not close its "
                "endpoints, as `newsdesk serve` does.",
                RuntimeWarning,
                stacklevel=2,
            )
        return None

    def _give_back(self, region: Region) -> None:
        with self._lock:
            self._free.append(region)

    def _drop(self, region: Region) -> None:
        with self._lock:
            self._parting.append(region)
        self._sweep()

    def _sweep(self) -> None:
        """Unregister what is done with, as far as the server is done with it."""
        with self._lock:
            parting, self._parting, self._swept = self._parting, [], time.monotonic()
        for region in parting:
            assert region.name  # an empty one would unregister everybody's
            asked = service_pb2.SystemSharedMemoryUnregisterRequest(name=region.name)
            try:
                self._stub.SystemSharedMemoryUnregister(asked, timeout=_CLOSE_SECONDS)
            except grpc.RpcError as error:
                if _IN_USE in (error.details() or ""):
                    with self._lock:
                        self._parting.append(region)
                    continue
                # A server that is gone has nothing registered.
            region.close()


def _remove_left_behind() -> None:
    """Remove the files of clients that were killed while they registered them."""
    for file in _SHM.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # somebody else's, or gone
            if time.time() - file.stat().st_mtime > _LEFT_BEHIND_SECONDS:
                file.unlink()
