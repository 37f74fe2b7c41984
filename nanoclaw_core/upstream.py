"""A model provider behind HTTP: anything that speaks Anthropic's Messages API."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from nanoclaw_core.errors import ModelUnavailable
from nanoclaw_core.models import ModelRequest
from nanoclaw_core.ports import ModelResponse

if TYPE_CHECKING:
    import aiohttp

MESSAGES_PATHS: Final = frozenset({"/v1/messages", "/v1/messages/count_tokens"})

_REFUSALS: Final = {
    401: "refuses the credential",
    402: "says that the account has no credit left",
    403: "does not allow this",
    404: "knows no /v1/models",
}


class HttpUpstream:
    """A `Provider` at `base_url` that adds `headers`, the credential, to each request.

    `silence` is how many seconds may pass without a byte, `connect_timeout` how many until a connection stands. With
    `refuse_real`, only loopback addresses are asked. Proxies are taken from the environment (HTTPS_PROXY).
    """

    def __init__(
        self,
        base_url: str,
        headers: Mapping[str, str],
        *,
        paths: Iterable[str] = MESSAGES_PATHS,
        silence: float = 180.0,
        connect_timeout: float = 10.0,
        refuse_real: bool = False,
    ) -> None:
        self.paths = frozenset(paths)
        self._base_url = base_url.rstrip("/")
        self._headers = {name.lower(): value for name, value in headers.items()}
        self._silence = silence
        self._connect_timeout = connect_timeout
        self._refuse_real = refuse_real
        self._session: aiohttp.ClientSession | None = None

    @asynccontextmanager
    async def respond(self, request: ModelRequest) -> AsyncIterator[ModelResponse]:
        """See `Provider.respond`; redirects are handed on, never followed, because they would take the credential along."""
        target = request.path + (f"?{request.query}" if request.query else "")
        async with self._ask("POST", target, request.headers, request.body) as response:
            yield ModelResponse(status=response.status, headers=response.headers, chunks=self._chunks(response))

    async def models(self) -> Sequence[str]:
        """See `Provider.models`.

        Raises:
            ModelUnavailable: also when the provider refuses or answers no list of models.
        """
        async with self._ask("GET", "/v1/models?limit=1000", {"anthropic-version": "2023-06-01"}, None) as response:
            body = b"".join([chunk async for chunk in self._chunks(response)])
            if response.status != 200:
                raise _refusal(self._base_url, response.status, body)
        try:
            return [str(model["id"]) for model in json.loads(body)["data"]]
        except (ValueError, KeyError, TypeError) as error:
            raise ModelUnavailable(f"{self._base_url} answered no list of models", retry=False) from error

    async def aclose(self) -> None:
        """Close all connections; the next request opens new ones."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    @asynccontextmanager
    async def _ask(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes | None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        from yarl import URL

        if self._refuse_real and not _is_loopback(self._base_url):
            raise ModelUnavailable("Real models are refused by NANOCLAW_REFUSE_REAL_MODELS", status=403, retry=False)
        url = URL(self._base_url + target, encoded=True)
        with self._told_apart():
            response = await self._open_session().request(
                method, url, headers=self._merged(headers), data=body and BytesIO(body), allow_redirects=False
            )
        try:
            yield response
        finally:
            response.close()  # not released: what the provider still sends is not wanted

    async def _chunks(self, response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        with self._told_apart():
            async for chunk in response.content.iter_any():
                yield chunk

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            import aiohttp

            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._connect_timeout, sock_read=self._silence),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=not _is_loopback(self._base_url),
            )
        return self._session

    def _merged(self, headers: Mapping[str, str]) -> dict[str, str]:
        """The worker's headers under ours; betas of both are asked for."""
        merged = {**headers, **self._headers, "accept-encoding": "identity"}
        if betas := ",".join(dict.fromkeys(beta for part in (headers, self._headers) for beta in _betas(part))):
            merged["anthropic-beta"] = betas
        return merged

    @contextmanager
    def _told_apart(self) -> Iterator[None]:
        """Turn aiohttp's errors into what the caller does next. Their texts may hold addresses, never headers."""
        import aiohttp

        try:
            yield
        except aiohttp.SocketTimeoutError as error:
            reason = f"The model provider sent nothing for {self._silence:g} s"
            raise ModelUnavailable(reason, status=504, retry=False) from error
        except aiohttp.InvalidURL as error:
            raise ModelUnavailable(f"{self._base_url} is no address of a model provider", retry=False) from error
        except (aiohttp.ClientError, OSError) as error:
            raise ModelUnavailable(f"The model provider at {self._base_url} cannot be reached: {error}") from error


def _refusal(base_url: str, status: int, body: bytes) -> ModelUnavailable:
    """Why the provider lists no models, in its own words where it has any."""
    try:
        said = " ".join(str(json.loads(body)["error"]["message"]).split())[:200]
    except (ValueError, KeyError, TypeError):
        said = ""
    if "credit balance" in said:  # which Anthropic answers with 400
        status = 402
    words = _REFUSALS.get(status, f"answers with status {status}")
    return ModelUnavailable(f"{base_url} {words}" + (f" ({said})" if said else ""), status=status, retry=False)


def _betas(headers: Mapping[str, str]) -> list[str]:
    return [beta.strip() for beta in headers.get("anthropic-beta", "").split(",") if beta.strip()]


def _is_loopback(base_url: str) -> bool:
    host: Any = urlsplit(base_url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
