"""How the gateway says no: always JSON in the shape of the Messages API."""

from __future__ import annotations

from typing import Final

from aiohttp import web

_TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    408: "timeout_error",
    411: "invalid_request_error",
    413: "request_too_large",
    415: "invalid_request_error",
    422: "invalid_request_error",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}


class RequestRefused(Exception):
    """A request that the gateway does not take, and the HTTP status that says why."""

    def __init__(self, status: int, message: str, *, retry: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.retry = retry


def refusal(status: int, message: str, *, retry: bool = False) -> web.Response:
    """An error that Claude Code shows as it is. Without `retry` it asks only once (else a 401 means a minute of silence)."""
    error = {"type": _TYPES.get(status, "api_error"), "message": message}
    headers = {"x-should-retry": "true" if retry else "false"}
    return web.json_response({"type": "error", "error": error}, status=status, headers=headers)


def refusal_of(error: RequestRefused | web.HTTPException, request: web.Request) -> web.Response:
    """Our own refusals, and aiohttp's (no such path, no such method), in the same shape."""
    if isinstance(error, RequestRefused):
        return refusal(error.status, str(error), retry=error.retry)
    answer = refusal(error.status, f"{request.method} {request.path} does not exist here")
    if "Allow" in error.headers:
        answer.headers["Allow"] = error.headers["Allow"]
    return answer


def cut(request: web.Request) -> None:
    """Break the connection, so that half an answer does not look like a whole one."""
    if request.transport is not None:
        request.transport.abort()
