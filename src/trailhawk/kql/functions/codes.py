"""Compression and encodings that SQL has no words for."""

from __future__ import annotations

import base64
import binascii
import re
import struct
import uuid
import zlib

from isal import isal_zlib

from trailhawk.kql.functions import sql
from trailhawk.kql.functions.python import Text, python
from trailhawk.kql.functions.registry import Guid, String, scalar
from trailhawk.kql.types import KqlType

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


_BLOCK = 65_535
"""The most bytes that one stored block of deflate holds."""


def _deflate(data: bytes) -> bytes:
    """Packed as Kusto does: ISA-L's fastest level, or stored as it is where that is not shorter."""
    packer = isal_zlib.compressobj(0, isal_zlib.DEFLATED, -15)
    packed = packer.compress(data) + packer.flush()
    blocks = [data[start : start + _BLOCK] for start in range(0, len(data), _BLOCK)] or [b""]
    if len(packed) <= len(data) + 5 * len(blocks):
        return bytes(packed)
    last = len(blocks) - 1
    return b"".join(
        struct.pack("<BHH", place == last, len(block), len(block) ^ 0xFFFF) + block
        for place, block in enumerate(blocks)
    )


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

    >>> gzip_compress_to_base64_string("1234567890qwertyuiop")
    H4sIAAAAAAAA/wEUAOv/MTIzNDU2Nzg5MHF3ZXJ0eXVpb3A6m7f2FAAAAA==
    """
    data = text.encode()
    end = struct.pack("<II", zlib.crc32(data), len(data))
    return base64.b64encode(b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + _deflate(data) + end).decode()


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

    >>> zlib_compress_to_base64_string("1234567890qwertyuiop")
    eAEBFADr/zEyMzQ1Njc4OTBxd2VydHl1aW9wOAkGdw==
    >>> strlen(zlib_decompress_from_base64_string(zlib_compress_to_base64_string(strrep("trail", 100))))
    500
    """
    data = text.encode()
    end = struct.pack(">I", zlib.adler32(data))
    return base64.b64encode(b"\x78\x01" + _deflate(data) + end).decode()


@python("guid_of_base64", internal=True)
def guid_of_base64(text: Text) -> Text:
    """The text of the guid in base64; '' where it is none."""
    try:
        return str(uuid.UUID(bytes_le=base64.b64decode(text, validate=True)))
    except (binascii.Error, ValueError):
        return ""


@python("base64_of_guid", internal=True)
def base64_of_guid(text: Text) -> Text:
    """The sixteen bytes of a guid's text, in the order of .NET, in base64."""
    return base64.b64encode(uuid.UUID(text).bytes_le).decode() if text else ""


@scalar()
def base64_decode_toguid(text: String) -> Guid:
    """The guid whose sixteen bytes are in base64; null where they are not.

    >>> base64_decode_toguid("8jMxriJurkmwahbmqbIS6w==")
    ae3133f2-6e22-49ae-b06a-16e6a9b212eb
    >>> base64_decode_toguid("abcd1231")
    null
    """
    return sql.call("nullif", guid_of_base64.overloads[0].build(text), "")


@scalar()
def base64_encode_fromguid(guid: Guid) -> String:
    """The sixteen bytes of a guid in base64; '' for null.

    >>> base64_encode_fromguid(toguid("ae3133f2-6e22-49ae-b06a-16e6a9b212eb"))
    8jMxriJurkmwahbmqbIS6w==
    """
    return base64_of_guid.overloads[0].build(sql.text(sql.cast(guid, KqlType.STRING)))


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
