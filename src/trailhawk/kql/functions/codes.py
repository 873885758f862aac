"""Compression and encodings that SQL has no words for."""

from __future__ import annotations

import base64
import binascii
import gzip
import re
import zlib

from trailhawk.kql.functions.python import Text, python

MAX_INFLATED = 16 << 20
"""Bytes that compressed text may unfold to; beyond that it is as good as broken."""


def _inflate(text: str, window_bits: int) -> str:
    """The unpacked text; '' where it is no such thing, or unfolds beyond the bound."""
    try:
        packed = base64.b64decode(text, validate=True)
        unpacker = zlib.decompressobj(window_bits)
        unpacked = unpacker.decompress(packed, MAX_INFLATED)
        return unpacked.decode() if unpacker.eof else ""
    except (binascii.Error, zlib.error, UnicodeDecodeError, ValueError):
        return ""


@python()
def gzip_decompress_from_base64_string(text: Text) -> Text:
    """The text inside base64 of a gzip member; '' where it is none.

    >>> gzip_decompress_from_base64_string("eJwLSS0uUSguKcrMS1cwNDIGACxqBQ4=")

    >>> gzip_decompress_from_base64_string(gzip_compress_to_base64_string("trail"))
    trail
    """
    return _inflate(text, 31)


@python()
def gzip_compress_to_base64_string(text: Text) -> Text:
    """The text as a gzip member in base64.

    >>> strlen(gzip_compress_to_base64_string("trail")) > 0
    True
    """
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()


@python()
def zlib_decompress_from_base64_string(text: Text) -> Text:
    """The text inside base64 of a zlib stream; '' where it is none.

    >>> zlib_decompress_from_base64_string("eJwLSS0uUSguKcrMS1cwNDIGACxqBQ4=")
    Test string 123
    """
    return _inflate(text, 15)


@python()
def zlib_compress_to_base64_string(text: Text) -> Text:
    """The text as a zlib stream in base64.

    >>> zlib_compress_to_base64_string("Test string 123")
    eJwLSS0uUSguKcrMS1cwNDIGACxqBQ4=
    """
    return base64.b64encode(zlib.compress(text.encode())).decode()


@python()
def punycode_from_string(text: Text) -> Text:
    """The text in Punycode (RFC 3492).

    >>> punycode_from_string("académie-française")
    acadmie-franaise-npb1a
    """
    return text.encode("punycode").decode()


@python()
def punycode_to_string(text: Text) -> Text:
    """The text that Punycode stands for; '' where it is none.

    >>> punycode_to_string("acadmie-franaise-npb1a")
    académie-française
    """
    try:
        return text.encode().decode("punycode")
    except (UnicodeError, ValueError):
        return ""


# The full stops that IDNA takes for a dot (RFC 3490, 3.1).
_DOTS = re.compile("[.\u3002\uff0e\uff61]")


@python()
def punycode_domain_to_string(domain: Text) -> Text:
    """A domain name in its ASCII form, label by label (Kusto's name for encoding).

    >>> punycode_domain_to_string("académie.fr")
    xn--acadmie-eya.fr
    """
    return ".".join(
        label if label.isascii() else "xn--" + label.encode("punycode").decode()
        for label in _DOTS.split(domain)
    )


@python()
def punycode_domain_from_string(encoded: Text) -> Text:
    """A domain name in Unicode, label by label (Kusto's name for decoding); '' where a label is no Punycode.

    >>> punycode_domain_from_string("xn--acadmie-eya.fr")
    académie.fr
    """
    try:
        return ".".join(
            label[4:].encode().decode("punycode") if label.lower().startswith("xn--") else label
            for label in encoded.split(".")
        )
    except (UnicodeError, ValueError):
        return ""
