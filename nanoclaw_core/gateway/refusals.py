"""How the gateway says no: always JSON in the shape of the Messages API."""

from __future__ import annotations

from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler

_TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}


class BodyTooLarge(Exception):
    """A request's body is longer than its path allows."""


def refusal(status: int, message: str, *, retry: bool = False) -> web.Response:
    """An error that Claude Code shows as it is. Without `retry` it asks only once (else a 401 means a minute of silence)."""
    error = {"type": _TYPES.get(status, "api_error"), "message": message}
    headers = {"x-should-retry": "true" if retry else "false"}
    return web.json_response({"type": "error", "error": error}, status=status, headers=headers)


@web.middleware
async def refuse_in_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn aiohttp's own refusals (no such path, no such method) and bodies without end into ours."""
    try:
        return await handler(request)
    except BodyTooLarge as error:
        return refusal(413, str(error))
    except web.HTTPException as error:
        answer = refusal(error.status, f"{request.method} {request.path} does not exist here")
        if "Allow" in error.headers:
            answer.headers["Allow"] = error.headers["Allow"]
        return answer


async def read_body(request: web.Request, limit: int) -> bytes:
    """The whole body.

    Raises:
        BodyTooLarge: it has more than `limit` bytes; no more than that were kept.
    """
    body = bytearray()
    async for chunk in request.content.iter_any():
        body += chunk
        if len(body) > limit:
            raise BodyTooLarge(f"the body of {request.path} may have at most {limit:,} bytes")
    return bytes(body)
