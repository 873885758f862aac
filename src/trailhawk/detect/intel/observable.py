"""What an indicator names, in one spelling: addresses, names, URLs, hashes, as rules compare them.

Keys are the left sides of STIX comparisons.
https://docs.oasis-open.org/cti/stix/v2.1/os/stix-v2.1-os.html#_mlbmudhl16lr
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

MAX_VALUE = 4_096
IPV4, IPV6, DOMAIN, URL, EMAIL = (
    "ipv4-addr:value",
    "ipv6-addr:value",
    "domain-name:value",
    "url:value",
    "email-addr:value",
)
WIDEST_V4, WIDEST_V6 = 8, 16
"""Prefix length of the widest network that is taken: a wider one would be found in everything."""

_HASHES = {32: "MD5", 40: "SHA-1", 64: "SHA-256", 128: "SHA-512"}
_HASH_NAMES = {name.replace("-", ""): name for name in _HASHES.values()}
_HASH_KEY = re.compile(r"file:hashes\.'?([A-Za-z0-9_-]+)'?")
_HEX = re.compile(r"[0-9a-fA-F]+")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{1,15}://[^\s]+")
_EMAIL = re.compile(r"[^@\s]{1,64}@([^@\s]+)")
_DOMAIN = re.compile(r"(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9])?\.)+(?:[a-z]{2,63}|xn--[a-z0-9-]{1,59})")
_DEFANGED = (
    (re.compile(r"^hxxp", re.IGNORECASE), "http"),
    (re.compile(r"[\[({](?:\.|dot)[\])}]", re.IGNORECASE), "."),
    (re.compile(r"[\[({](?:@|at)[\])}]", re.IGNORECASE), "@"),
    (re.compile(r"\[:(//)?\]"), r":\1"),
)


@dataclass(frozen=True, slots=True)
class Observable:
    """One thing to look for: the left and the right side of a comparison."""

    key: str
    value: str


def observable(key: str, value: str) -> Observable:
    """A comparison in the spelling that rules compare with. ValueError for what cannot be meant."""
    if len(value) > MAX_VALUE:
        raise ValueError(f"a value of {len(value):,} characters; {MAX_VALUE:,} at most")
    key, value = key.strip(), value.strip()
    if not value:
        raise ValueError("an empty value")
    if key in (IPV4, IPV6):
        return _address(value)
    if key.endswith("_ref.value"):
        return Observable(key, _spelled(value))
    if key in (DOMAIN, EMAIL):
        return Observable(key, value.lower().rstrip("."))
    if found := _HASH_KEY.fullmatch(key):
        plain = found[1].upper().replace("-", "").replace("_", "")
        name = _HASH_NAMES.get(plain, found[1])
        return Observable(f"file:hashes.'{name}'" if "-" in name else f"file:hashes.{name}", value.lower())
    return Observable(key, value)


def recognised(text: str) -> Observable:
    """What a bare word of a list is, also one written so that nobody clicks it. ValueError if nothing."""
    if len(text) > MAX_VALUE:
        raise ValueError(f"a value of {len(text):,} characters; {MAX_VALUE:,} at most")
    word = text.strip().strip("'\"")
    for pattern, plain in _DEFANGED:
        word = pattern.sub(plain, word)
    if _URL.fullmatch(word):
        return Observable(URL, word)
    if word[:1].isalnum() or ":" in word:
        try:
            return _address(word)
        except ipaddress.AddressValueError:
            pass
    if _HEX.fullmatch(word) and (name := _HASHES.get(len(word))):
        return observable(f"file:hashes.{name}", word)
    if (mail := _EMAIL.fullmatch(word)) and _is_domain(mail[1]):
        return observable(EMAIL, word)
    name = word.removeprefix("*.").lower().rstrip(".")
    if _is_domain(name):
        return Observable(DOMAIN, name)
    raise ValueError("no address, network, domain, URL, file hash or mail address")


def _is_domain(name: str) -> bool:
    if not name.isascii():
        try:
            name = name.encode("idna").decode()
        except UnicodeError:
            return False
    return len(name) <= 253 and _DOMAIN.fullmatch(name.lower()) is not None


def _spelled(value: str) -> str:
    """What a part of a connection refers to: an address as rules compare it, a name in lower case."""
    try:
        return _address(value).value
    except ipaddress.AddressValueError:
        return value.lower().rstrip(".")


def _address(value: str) -> Observable:
    """An address, or a network in the usual spelling; one of a single address is that address."""
    try:
        network = ipaddress.ip_network(value, strict=False)
    except ValueError:
        raise ipaddress.AddressValueError("no address or network") from None
    widest = WIDEST_V4 if network.version == 4 else WIDEST_V6
    if network.prefixlen < widest:
        raise ValueError(f"a network wider than /{widest}")
    single = network.prefixlen == network.max_prefixlen
    text = str(network.network_address) if single else str(network)
    return Observable(IPV4 if network.version == 4 else IPV6, text)
