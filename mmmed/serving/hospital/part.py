"""What carries results out while the server runs, as a part of it without pages."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import APIRouter, FastAPI

from mmmed.serving.hospital.delivery import Courier
from mmmed.serving.web.parts import Part

logger = logging.getLogger(__name__)


def delivery_part(courier: Courier, *, every: float = 5.0) -> Part:
    """Deliver what is due, again and again.

    Args:
        courier: Knows where to.
        every: Seconds between two looks into the outbox.
    """

    async def carry() -> None:
        while True:
            try:
                await asyncio.to_thread(courier.deliver)
            except Exception as error:  # whatever it is, the next result may be better off; it is tried again
                logger.error("delivery failed: %s", type(error).__name__)
            await asyncio.sleep(every)

    @asynccontextmanager
    async def running(_: FastAPI) -> AsyncIterator[None]:
        task = asyncio.create_task(carry())
        try:
            yield
        finally:
            task.cancel()

    return Part(name="delivery", router=APIRouter(), running=running)
