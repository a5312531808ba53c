"""The certificate, its key, and the authorities of callers' own certificates: read again when the files change.

A certificate manager writes the files one after another, and into a mounted folder by a link: what does not fit
together is passed over, and the last that did is used on, until it does.
"""

import asyncio
import logging
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING

from newsdesk.server.gateway.logs import log
from newsdesk.server.gateway.settings import GatewaySettings, GatewaySettingsError

if TYPE_CHECKING:
    import grpc

_LOOK_SECONDS = 1.0


@dataclass(frozen=True)
class _Files:
    """The files' contents, PEM; `client_ca` is empty where callers need no certificate."""

    chain: bytes
    key: bytes
    client_ca: bytes


class Certificates:
    """The certificates of both ports.

    Raises:
        GatewaySettingsError: at the start, for files that cannot be used.
    """

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings
        self._files, self._context = self._load()
        self._tried = self._files
        self._front = _server_context()
        self._front.set_alpn_protocols(["http/1.1"])
        if settings.tls_client_ca:
            self._front.verify_mode = ssl.CERT_REQUIRED
            # A session that goes on is not asked for its certificate, of whatever authority.
            self._front.options |= ssl.OP_NO_TICKET
            self._front.num_tickets = 0
        self._front.sni_callback = self._choose

    def context(self) -> ssl.SSLContext:
        """Return the context to listen with: each handshake is made with what the files said last."""
        return self._front

    def credentials(self) -> "grpc.ServerCredentials":
        """Return what gRPC listens with, to the same effect."""
        import grpc

        def configuration() -> grpc.ServerCertificateConfiguration:
            files = self._files
            pairs = [(files.key, files.chain)]
            return grpc.ssl_server_certificate_configuration(pairs, files.client_ca or None)

        return grpc.dynamic_ssl_server_credentials(
            configuration(), configuration, require_client_authentication=bool(self._settings.tls_client_ca)
        )

    async def watch(self) -> None:
        """Look for ever whether the files have changed."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            await asyncio.to_thread(self.refresh)

    def refresh(self) -> None:
        """Take up what the files say now, where it is new and fits together."""
        try:
            files = self._read()
            if files == self._tried:
                return
            self._tried = files
            self._files, self._context = self._load()
        except GatewaySettingsError as error:
            log("the certificates cannot be used, the last ones are used on", logging.ERROR, error=str(error))
        else:
            log("the certificates were read anew")

    def _choose(self, connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        connection.context = self._context

    def _load(self) -> tuple[_Files, ssl.SSLContext]:
        settings, files = self._settings, self._read()
        context = _server_context()
        assert settings.tls_cert is not None
        try:
            context.load_cert_chain(settings.tls_cert, settings.tls_key, password="")
            if settings.tls_client_ca:
                context.verify_mode = ssl.CERT_REQUIRED
                context.load_verify_locations(settings.tls_client_ca)
        except (ssl.SSLError, OSError, ValueError) as error:
            raise GatewaySettingsError(
                f"--tls-cert {settings.tls_cert} and --tls-key {settings.tls_key} (NEWSDESK_TLS_…) cannot be used: "
                f"{error}. Expected PEM files: the certificate with its chain, its own key without a password"
                f"{', and authorities in --tls-client-ca' if settings.tls_client_ca else ''}."
            ) from error
        if self._read() != files:
            raise GatewaySettingsError("the certificate's files change just now")
        return files, context

    def _read(self) -> _Files:
        settings = self._settings
        paths = settings.tls_cert, settings.tls_key, settings.tls_client_ca
        try:
            return _Files(*(path.read_bytes() if path else b"" for path in paths))
        except OSError as error:
            raise GatewaySettingsError(
                f"{error.filename} cannot be read ({error.strerror}): --tls-cert, --tls-key and --tls-client-ca name "
                "PEM files."
            ) from error


def _server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
