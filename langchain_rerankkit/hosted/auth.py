"""Which key goes where, and who signs requests where a key in a header is not enough.

Signers use the vendors' own libraries, imported at first use. Each is named by a profile's ``signer``: it takes the values of
the profile's params and the key, and returns a function from method, URL, headers and body of a request to the headers to
add, which may ask the vendor for a token and is called for every attempt.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from langchain_rerankkit._optional import require
from langchain_rerankkit.hosted.addresses import host_of, is_host, is_loopback, origin
from langchain_rerankkit.hosted.profiles import Profile, from_env

__all__ = ["Signer", "base_for", "is_key", "key_for", "key_header", "signer_for"]

Key = str | Callable[[], str] | None
Signer = Callable[[str, str, Mapping[str, str], bytes], Mapping[str, str]]


def is_key(text: str) -> bool:
    """Whether a text can be a key: one that cannot would be quoted by the error of whoever refuses it."""
    return text.isascii() and text.isprintable() and " " not in text


def base_for(profile: Profile, key: Key, base_url: str | None, values: Mapping[str, str]) -> str:
    """The address to talk to: the user's, the environment's, or the provider's.

    Raises:
        ValueError: If there is none, or a value that stands in it would lead elsewhere.
    """
    for name, value in values.items():
        if f"{{{name}}}" in (profile.url or "") and not re.fullmatch(r"[A-Za-z0-9-]+", value):
            msg = f"{name} stands in the address and must be letters, digits and hyphens."
            raise ValueError(msg)
    by_key = [url for start, url in profile.url_by_key.items() if isinstance(key, str) and key.startswith(start)]
    url = (
        base_url or from_env(profile.url_env) or next(iter(by_key), "") or (profile.url or "").format_map(values)
    )  # the user's is no template
    if not url:
        also = f" (or set {profile.url_env})" if profile.url_env else ""
        msg = f"{profile.called} needs base_url, the address of your server{also}."
        raise ValueError(msg)
    return url


def key_for(profile: Profile, key: Key, base_url: str | None) -> Key:
    """The key to send: the user's, or the environment's if the address is the one that the environment's key is for.

    Raises:
        ValueError: If the provider needs one and there is none.
    """
    if isinstance(key, str) and key and profile.key == "none" and profile.signer:
        msg = f"{profile.title} takes no key: it is signed for by the vendor's library, or give a function that returns a token."
        raise ValueError(msg)
    if key is not None:
        return key or None
    own = base_url is None or _is_own(profile, base_url)
    if profile.key == "none":
        if profile.signer and not own and not is_loopback(host_of(base_url or "")):
            msg = f"{profile.title} is signed for at its own hosts only: give api_key, a function that returns a token."
            raise ValueError(msg)
        return None
    if not own:
        return None
    found = (from_env(*profile.key_env) or "").strip()
    name = profile.called
    if not found and profile.key == "required":
        msg = f"{name} needs a key: give api_key, or set {' or '.join(profile.key_env)}."
        raise ValueError(msg)
    if not is_key(found):
        msg = f"The key of {name} in the environment holds a space or another character that no key has."
        raise ValueError(msg)
    return found or None


def _is_own(profile: Profile, url: str) -> bool:
    said = from_env(profile.url_env)
    if said is not None and origin(said) == origin(url):
        return True
    hosts = [host_of(own).replace("{region}", "*") for own in (profile.url, *profile.url_by_key.values()) if own]
    return is_host(host_of(url), [*profile.key_hosts, *hosts])


def key_header(profile: Profile, key: str) -> dict[str, str]:
    """The header that carries a key."""
    name, _, form = profile.auth.partition(": ")
    return {name: form.replace("{key}", key)}


def signer_for(profile: Profile, key: Key, values: Mapping[str, str]) -> Signer | None:
    """Who signs requests; None where a header carries the key, or nothing does.

    Args:
        profile: The provider.
        key: The key, or a function that returns a token.
        values: The values of the profile's params.
    """
    if callable(key):
        return partial(_with_token, profile, key)
    if profile.signer is None or (key is None and profile.key != "none"):
        return None
    return _SIGNERS[profile.signer](values, key)


def _with_token(profile: Profile, provide: Callable[[], str], *_: Any) -> Mapping[str, str]:
    token = provide()
    if not isinstance(token, str) or not is_key(token):
        msg = "The function given as api_key must return a token without spaces or line breaks."
        raise ValueError(msg)
    return key_header(profile, token)


def aws(params: Mapping[str, str], _: str | None) -> Signer:
    """Signature version 4 with the credentials that boto3 would find."""
    signing = require("botocore.auth", extra="bedrock")
    requests = require("botocore.awsrequest", extra="bedrock")
    credentials = require("botocore.session", extra="bedrock").get_session().get_credentials()
    if credentials is None:
        msg = "There are no AWS credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE."
        raise ValueError(msg)

    def sign(method: str, url: str, headers: Mapping[str, str], body: bytes) -> Mapping[str, str]:
        request = requests.AWSRequest(method=method, url=url, headers=dict(headers), data=body)
        signing.SigV4Auth(credentials.get_frozen_credentials(), "bedrock", params["region"]).add_auth(request)
        return {name: value for name, value in request.headers.items() if name not in headers}

    return sign


def google(_: Mapping[str, str], __: str | None) -> Signer:
    """A token of Google's application default credentials."""
    auth = require("google.auth", extra="vertex")
    transport = require("google.auth.transport.requests", extra="vertex")
    credentials, _project = auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])
    lock = threading.Lock()

    def sign(*_: Any) -> Mapping[str, str]:
        with lock:
            if not credentials.valid:
                credentials.refresh(transport.Request())
            return {"Authorization": f"Bearer {credentials.token}"}

    return sign


def ibm(params: Mapping[str, str], key: str | None) -> Signer:
    """A token that IBM's identity service gives for an API key."""
    scheme, host, _port = origin(params["iam_url"])
    if not (scheme == "https" and is_host(host, ["*.cloud.ibm.com"])) and not is_loopback(host):
        msg = "iam_url must be https:// and a host of cloud.ibm.com: the key goes there."
        raise ValueError(msg)
    tokens = require("ibm_cloud_sdk_core", extra="watsonx").IAMTokenManager(key, url=params["iam_url"])

    def sign(*_: Any) -> Mapping[str, str]:
        return {"Authorization": f"Bearer {tokens.get_token()}"}

    return sign


def volcengine(params: Mapping[str, str], key: str | None) -> Signer:
    """Volcengine's signature, with an access key and its secret."""
    base = require("volcengine.base.Request", extra="volcengine")
    signer = require("volcengine.auth.SignerV4", extra="volcengine").SignerV4
    credentials = require("volcengine.Credentials", extra="volcengine").Credentials
    account = credentials(params["access_key"], key, "air", params["region"])

    def sign(method: str, url: str, headers: Mapping[str, str], body: bytes) -> Mapping[str, str]:
        request = base.Request()
        parts = urlsplit(url)
        request.set_schema(parts.scheme)
        request.set_method(method)
        request.set_host(parts.netloc)
        request.set_path(parts.path)
        request.set_headers({**headers, "Host": parts.netloc})
        request.set_body(body.decode())
        signer.sign(request, account)
        return {name: value for name, value in request.headers.items() if name not in headers and name != "Host"}

    return sign


_SIGNERS: Mapping[str, Callable[[Mapping[str, str], str | None], Signer]] = {
    "aws": aws,
    "google": google,
    "ibm": ibm,
    "volcengine": volcengine,
}
