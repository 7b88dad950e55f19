"""Runs an application until it is told to stop."""

from __future__ import annotations

import asyncio
import logging
import socket

import uvicorn
from fastapi import FastAPI

from mmmed.errors import ConfigError
from mmmed.serving.web.settings import Settings

logger = logging.getLogger(__name__)

CONNECTIONS = 512
"""Connections at once; more are told to come again."""
FAREWELL_S = 5
"""Seconds that answers under way have when the server is told to stop."""


def serve(app: FastAPI, settings: Settings) -> None:
    """Listen and answer until interrupted.

    Raises:
        ConfigError: The address cannot be listened on.
    """
    listening = _listen(settings)
    host, port = listening.getsockname()[:2]
    print(f"http://{f'[{host}]' if ':' in host else host}:{port}  (Ctrl-C ends it; research use only)", flush=True)
    config = uvicorn.Config(
        app,
        # Addresses may hold anything a visitor types, so requests are logged by their route (`traffic`).
        access_log=False,
        log_level="warning",
        server_header=False,
        proxy_headers=False,
        limit_concurrency=CONNECTIONS,
        timeout_graceful_shutdown=FAREWELL_S,
        lifespan="on",
    )
    server = uvicorn.Server(config)
    with listening:
        asyncio.run(server.serve(sockets=[listening]))
    if not server.started:
        raise ConfigError("the server did not start; what is logged above says why")


def _listen(settings: Settings) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {settings.host} port {settings.port} ({error.strerror}); choose another --port"
        ) from error
    return listening
