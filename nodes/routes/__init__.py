"""POST routes of ComfyUI's server that answer JSON; bad input gets status 400 with a message."""

import asyncio

from aiohttp import web

from ...samplers.adapters.progress import running_server


class BadRequest(ValueError):
    """What is wrong with a request, for the person who sees the widget."""


def respond(answer, most_bytes: int, body: bytes) -> tuple[int, dict]:
    """(200, answer(body)), or (400, {"error": message}) where the body is too long or answer raises ValueError."""
    try:
        if len(body) > most_bytes:
            raise ValueError(f"the request is longer than {most_bytes} bytes")
        return 200, answer(body)
    except ValueError as error:
        return 400, {"error": str(error)}


def handler(answer, most_bytes: int):
    """A request handler: respond in a thread. No more than most_bytes are held, whatever the sender announces."""

    async def handle(request: web.Request) -> web.Response:
        body = bytearray()
        async for chunk in request.content.iter_any():
            body += chunk
            if len(body) > most_bytes:
                break
        run = asyncio.get_running_loop().run_in_executor
        status, data = await run(None, respond, answer, most_bytes, bytes(body))
        return web.json_response(data, status=status)

    return handle


def register(path: str, handle) -> None:
    """Add a route, where a server runs."""
    server = running_server()
    if server is not None:
        server.routes.post(path)(handle)


def before_checks(handle) -> None:
    """Call handle(request) -> request for each graph that is queued, before core checks it, where a server runs."""
    server = running_server()
    if server is not None:
        server.add_on_prompt_handler(handle)
