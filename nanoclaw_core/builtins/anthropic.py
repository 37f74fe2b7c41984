"""Claude itself, asked with an API key or with the token of a subscription."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

from nanoclaw_core.errors import SettingInvalid
from nanoclaw_core.hookspecs import hookimpl
from nanoclaw_core.models import Manifest, SetupField
from nanoclaw_core.ports import Provider, ProviderContext, ProviderFactory
from nanoclaw_core.upstream import HttpUpstream

API_KEY, OAUTH_TOKEN, BASE_URL = "ANTHROPIC_API_KEY", "CLAUDE_CODE_OAUTH_TOKEN", "ANTHROPIC_BASE_URL"
_DEFAULT_BASE_URL = "https://api.anthropic.com"
_OAUTH_BETA = "oauth-2025-04-20"

_BASE_URL_FIELD = SetupField(
    variable=BASE_URL,
    label="Address of the API",
    secret=False,
    required=False,
    help=f"Only for a gateway of your own; {_DEFAULT_BASE_URL} otherwise.",
)


@hookimpl
def nanoclaw_providers() -> Iterable[ProviderFactory]:
    """Two providers rather than one with two optional credentials: what is required of each is then plain data."""
    key = SetupField(variable=API_KEY, label="API key", help="Make one at https://console.anthropic.com/settings/keys.")
    token = SetupField(variable=OAUTH_TOKEN, label="Subscription token", help="`claude setup-token` prints one.")
    return [
        ProviderFactory(
            name="anthropic",
            summary="Claude, paid by use with an API key",
            create=with_api_key,
            manifest=Manifest(fields=(key, _BASE_URL_FIELD), homepage="https://console.anthropic.com"),
        ),
        ProviderFactory(
            name="claude-subscription",
            summary="Claude, with the token of a Claude subscription (see the provider's terms)",
            create=with_subscription,
            manifest=Manifest(fields=(token, _BASE_URL_FIELD), homepage="https://claude.com"),
        ),
    ]


def with_api_key(context: ProviderContext) -> Provider:
    """Raises:
    SettingInvalid: no key, or an address that is none.
    """
    return _upstream(context, {"x-api-key": _credential(context, API_KEY)})


def with_subscription(context: ProviderContext) -> Provider:
    """Raises:
    SettingInvalid: no token, or an address that is none.
    """
    token = _credential(context, OAUTH_TOKEN)
    context.warn(
        f"{OAUTH_TOKEN} uses a Claude subscription outside of Claude's own applications: Anthropic's terms may forbid that. "
        f"{API_KEY} is always allowed."
    )
    return _upstream(context, {"authorization": f"Bearer {token}", "anthropic-beta": _OAUTH_BETA})


def _credential(context: ProviderContext, variable: str) -> str:
    credential = context.settings.get(variable, "").strip()
    if not credential or not credential.isascii() or not credential.isprintable():
        raise SettingInvalid(variable, "***" if credential else "", "a credential in one line of ASCII")
    return credential


def _upstream(context: ProviderContext, headers: dict[str, str]) -> HttpUpstream:
    base_url = context.settings.get(BASE_URL, "").strip() or _DEFAULT_BASE_URL
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise SettingInvalid(BASE_URL, base_url, "an address such as https://api.anthropic.com")
    return HttpUpstream(base_url, headers, silence=context.silence, refuse_real=context.refuse_real_models)
