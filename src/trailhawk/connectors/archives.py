"""Log files in archives: the members of zip and tar files as objects, one after the other; an archive in an
archive is opened too, one in that is not. Nothing is put on disk but a zip in an archive, while it is read.

Formats: https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT ,
https://pubs.opengroup.org/onlinepubs/9699919799/utilities/pax.html
"""

from __future__ import annotations

import dataclasses
import errno
import io
import os
import re
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, NoReturn, cast

import xxhash

from trailhawk.connectors.objects import LogObject
from trailhawk.files import filled, make_sure_of_room
from trailhawk.sources import Readable, Unpacked

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

INSIDE: Final = "//"
"""Stands between an archive and its member in a location: logs.zip//CloudTrail/a.json.gz. No other location
has it, as paths are told in their shortest form. In an archive in an archive: logs.zip//day.zip//a.json."""
INSIDE_BEFORE: Final = "!"
"""What stood there in older ledgers; also in names of files."""

_ZIP: Final = re.compile(r"\.zip$", re.IGNORECASE)
_TAR: Final = re.compile(r"\.(?:tar|tgz|tbz2?|txz|tar\.(?:gz|bz2|xz|zst))$", re.IGNORECASE)
_ZIP_STARTS: Final = (b"PK\x03\x04", b"PK\x05\x06")  # a file, or the end of an empty archive
_HELD_BYTES: Final = 16 * 1024 * 1024  # of a tar's member, so that it can be opened again
_COPY_BYTES: Final = 4 * 1024 * 1024
_DIRECTORY_BYTES: Final = 64 * 1024 * 1024  # some 600,000 members
_HEADER_BYTES: Final = 1024 * 1024  # a name, or the attributes of a member
_LONG_HEADERS: Final = 4  # one behind the other, before a member
_READS_AT_END: Final = 100
_FREE_BYTES: Final = 256 * 1024 * 1024
_MAX_RATIO: Final = 400
"""As for gzip: beyond this ratio, and beyond the free bytes, a member is a bomb. So are the archives in an
archive, all together; each of them has the free bytes."""
_ENCRYPTED: Final = 1
_PACKINGS: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2)
_LIKE_A_BYTE: Final = re.compile(rb"\\(?=x[0-9a-f]{2})")
_SLASHES: Final = re.compile(r"(?:^|(?<=/))/")  # those that would look like INSIDE
_FAULTS: Final = (
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, struct.error),
    *(EOFError, NotImplementedError, RuntimeError, ValueError, LookupError, OverflowError),
)
"""What the standard library raises over damaged archives, besides OSError."""

_END: Final = struct.Struct("<12xI6x")
"""A zip's last record, of which the size of the list of files is read."""
_LARGE_END: Final = struct.Struct("<40xQ8x")
_LOCATOR_BYTES: Final = 20
_TAIL_BYTES: Final = _LARGE_END.size + _LOCATOR_BYTES + _END.size + 0xFFFF  # a comment stands at the end
_LONG: Final = (
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
)


Position = Callable[[], int]
"""How many bytes of an archive lie before the end of the member at hand; of a tar, how many were read."""
Given = Callable[[int], None]
"""Is told how many bytes were unpacked; OSError where they are too many."""


@dataclass(frozen=True, slots=True)
class Member:
    """A member as an object, which can be opened until the next one is asked for. `name` is as it stands in
    the archive; `bytes` of the archive lie before its end."""

    item: LogObject
    name: str
    bytes: int


def is_named_so(name: str) -> bool:
    """Whether a file of this name says that it is an archive."""
    return bool(_ZIP.search(name) or _TAR.search(name))


def begins(first: bytes) -> bool:
    """Whether bytes that an object begins with, unpacked, are those of an archive."""
    return first.startswith(_ZIP_STARTS) or first[257:262] == b"ustar"


def is_archive(path: Path) -> bool:
    """Whether a file is an archive, by its name and by its first bytes."""
    return _is_one(path.name, lambda: path.open("rb"))


def members(path: Path, location: str) -> Iterator[Member]:
    """The files of an archive in its order, hidden ones and links left out, and in the place of an archive in
    it the files of that; `location` is the archive's.

    Each has a location of its own: of several of one name the second is `logs.zip//2//a.json`.
    Where an archive is damaged the last object stands for the archive itself, and raises OSError when it is
    opened, as does a member that is encrypted, that is damaged or that unpacks to more than it may.
    """
    for member, files in opened(path, location):
        yield from (member,) if files is None else files


def opened(path: Path, location: str) -> Iterator[tuple[Member, Iterator[Member] | None]]:
    """The files of an archive as `members` has them, but one that is an archive as itself, with its files. It
    is not unpacked where nobody asks for them."""
    allowed = _Allowed()
    for member, position in _outer(path, location):
        is_one = _is_one(member.name, member.item.open)
        yield member, _inner(member, position, allowed) if is_one else None


def open_inside(path: Path, inner: str) -> BinaryIO:
    """A copy of the member with a location that ends so, INSIDE or INSIDE_BEFORE (then the first of its name)
    in front; an archive in the archive as a whole, too. FileNotFoundError if there is none, another OSError
    where the archive cannot be opened."""
    path.open("rb").close()  # a listing only says that nothing is in it
    for member, position in _outer(path, ""):
        if inner in (member.item.location, INSIDE_BEFORE + text_of(member.name)):
            return _copied(member.item, tempfile.TemporaryFile())
        if inner.startswith(member.item.location + INSIDE) and _is_one(member.name, member.item.open):
            for found in _inner(member, position, _Allowed()):
                if found.item.location == inner:
                    return _copied(found.item, tempfile.TemporaryFile())
            break
    raise FileNotFoundError(errno.ENOENT, "no such file in the archive", f"{path}{inner}")


def _is_one(name: str, opens: Callable[[], BinaryIO]) -> bool:
    """Whether a file of this name that opens so is an archive; False where it cannot be read."""
    try:
        if _ZIP.search(name):
            with opens() as file:
                return file.read(4) in _ZIP_STARTS
        if _TAR.search(name):
            with opens() as file:
                return next(iter(Unpacked(file, block=512)), b"")[257:262] == b"ustar"
    except OSError:
        return False  # whoever reads it will tell
    return False


def _outer(path: Path, location: str) -> Iterator[tuple[Member, Position]]:
    """The members of an archive that is a file."""
    whole = LogObject(location, lambda: path.open("rb"))
    with suppress(OSError):
        status = path.stat()
        stamp = f"{status.st_size}:{status.st_mtime_ns}"
        whole = dataclasses.replace(whole, size=status.st_size, stamp=stamp)
    for name, item, position in _files(whole, path.name, lambda _: None):
        yield Member(item, name, position()), position


def _inner(archive: Member, position: Position, allowed: _Allowed) -> Iterator[Member]:
    """The members of an archive that is a member."""
    allowed.begin(position)
    with ExitStack() as stack:
        whole = archive.item
        if _ZIP.search(archive.name):
            held = stack.enter_context(tempfile.SpooledTemporaryFile(_HELD_BYTES))
            try:
                if whole.size is not None and whole.size > _HELD_BYTES:
                    make_sure_of_room(whole.size)
                copy = _copied(whole, cast(BinaryIO, held))
            except OSError as error:
                yield dataclasses.replace(archive, item=dataclasses.replace(whole, open=_refused(error)))
                return
            whole = dataclasses.replace(whole, open=lambda: copy)
        for name, item, _ in _files(whole, archive.name, allowed.give):
            yield Member(item, name, archive.bytes)


def _files(whole: LogObject, named: str, given: Given) -> Iterator[tuple[str, LogObject, Position]]:
    """The members of an archive of this name, each with its own; last what stands for it if it is damaged."""
    told = 0
    met: dict[int, int] = {}
    try:
        with whole.open() as file:
            for item, position in (_zipped if _ZIP.search(named) else _taped)(file, given):
                name = item.location
                hashed = xxhash.xxh3_64_intdigest(os.fsencode(name))  # names may be long, and millions
                met[hashed] = met.get(hashed, 0) + 1
                place = f"{whole.location}{INSIDE}{_unambiguous(name, met[hashed])}"
                # The archive's stamp: of a member alone it is not known whether it is another one by now.
                yield name, dataclasses.replace(item, location=place, stamp=whole.stamp), position
                told += 1
    except Exception as error:  # whatever the library raises, and a list of files that takes too much memory
        number, said = (error.errno, error.strerror) if isinstance(error, OSError) else (None, None)
        reason = said or str(error) or type(error).__name__
        fault = OSError(number or errno.EIO, f"the archive is damaged behind {told} files ({reason})")
        yield named, dataclasses.replace(whole, open=_refused(fault)), partial(int, whole.size or 0)


class _Allowed:
    """How much the archives in an archive unpack to, and may: each the free bytes, or all together so many
    times what the archive has up to there."""

    def __init__(self) -> None:
        self._given = 0
        self._free = 0
        self._position: Position = int

    def begin(self, position: Position) -> None:
        """With the next one."""
        self._free = self._given + _FREE_BYTES
        self._position = position

    def give(self, size: int) -> None:
        self._given += size
        if self._given > max(self._free, _MAX_RATIO * self._position()):
            reason = f"the archives in the archive unpack to more than {_MAX_RATIO} times its size"
            raise OSError(errno.EFBIG, reason)


def _copied(item: LogObject, copy: BinaryIO) -> BinaryIO:
    """The copy, filled; it is closed where that fails."""

    def pieces() -> Iterator[bytes]:
        with item.open() as file:
            while piece := file.read(_COPY_BYTES):
                yield piece

    return filled(copy, pieces())


def _zipped(file: BinaryIO, given: Given) -> Iterator[tuple[LogObject, Position]]:
    if _directory_bytes(file) > _DIRECTORY_BYTES:
        raise zipfile.BadZipFile(f"its list of files is larger than {_DIRECTORY_BYTES:,} bytes")
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    with zipfile.ZipFile(file) as archive:
        position = 0
        for info in archive.infolist():
            position = min(position + info.compress_size, size)
            if not info.is_dir() and not _is_hidden(info.filename):
                found = LogObject(info.filename, _opens(archive, info, given), size=info.file_size)
                yield found, partial(int, position)


def _opens(archive: zipfile.ZipFile, info: zipfile.ZipInfo, given: Given) -> Callable[[], BinaryIO]:
    if info.compress_type not in _PACKINGS:
        return _refused(OSError(errno.EINVAL, "it is packed in a rare way: unpack the archive first"))
    if info.flag_bits & _ENCRYPTED:
        return _refused(OSError(errno.EACCES, "it is encrypted: unpack the archive with its password first"))
    if info.file_size > max(_FREE_BYTES, _MAX_RATIO * info.compress_size):
        return _refused(OSError(errno.EFBIG, f"it unpacks to more than {_MAX_RATIO} times its size"))

    def opened() -> BinaryIO:
        with _as_oserror():
            file = archive.open(info)
        return io.BufferedReader(_Checked(lambda size: _told(file.read(size), given)), _COPY_BYTES)

    return opened


def _told(data: bytes, given: Given) -> bytes:
    given(len(data))
    return data


def _directory_bytes(file: BinaryIO) -> int:
    """How large the archive says its list of files is, as zipfile reads it: its last record, or the one for
    large archives, which stands before that."""
    file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
    tail = file.read()
    last = tail[-_END.size :]
    has_comment = not (last.startswith(b"PK\5\6") and last.endswith(b"\0\0"))
    at = tail.rfind(b"PK\5\6") if has_comment else len(tail) - _END.size
    if at < 0 or len(tail) - at < _END.size:
        return 0
    (size,) = _END.unpack_from(tail, at)
    large = at - _LOCATOR_BYTES - _LARGE_END.size
    if large >= 0 and tail[at - _LOCATOR_BYTES :][:4] == b"PK\6\7" and tail[large:][:4] == b"PK\6\6":
        return int(_LARGE_END.unpack_from(tail, large)[0])
    return int(size)


class _Blocks:
    """Unpacked blocks to read from."""

    def __init__(self, file: BinaryIO, given: Given) -> None:
        self._given = given
        self._unpacked = Unpacked(file)
        self._blocks = iter(self._unpacked)
        self._held = b""
        self._at = 0
        self._reads_at_end = 0

    def read(self, size: int = -1, /) -> bytes:
        """Up to `size` bytes; OSError where the stream is damaged, and where reading goes on behind its end:
        tarfile passes over what a header announces piece by piece, whether anything is there or not.
        """
        if self._at == len(self._held):
            self._held, self._at = next(self._blocks, b""), 0
            self._given(len(self._held))
            self._reads_at_end += not self._held
            if not self._held and (self._unpacked.fault or self._reads_at_end > _READS_AT_END):
                raise OSError(errno.EIO, self._unpacked.fault or "a file is longer than the archive")
        piece = self._held[self._at : self._at + size]
        self._at += len(piece)
        return piece


def _taped(file: BinaryIO, given: Given) -> Iterator[tuple[LogObject, Position]]:
    has_end, long_headers = False, 0

    class Header(tarfile.TarInfo):
        """A header that announces no name or attributes of any length, which would be held in memory.

        A tar ends with a block of zeros; behind a damaged or missing one the library just stops.
        """

        @classmethod
        def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Header:
            nonlocal has_end, long_headers
            has_end = len(buf) == buf.count(0) == tarfile.BLOCKSIZE
            header = super().frombuf(buf, encoding, errors)
            long_headers = long_headers + 1 if header.type in _LONG else 0
            if long_headers and header.size > _HEADER_BYTES:
                raise tarfile.HeaderError(f"a name of {header.size:,} bytes")
            if long_headers > _LONG_HEADERS:
                raise tarfile.HeaderError("a file with too many names")
            return header

    stream = io.BufferedReader(_Checked(_Blocks(file, given).read), _COPY_BYTES)
    with tarfile.open(fileobj=stream, mode="r|", tarinfo=Header) as tar:
        while (info := tar.next()) is not None:
            tar.members.clear()  # type: ignore[attr-defined]  # each header would be kept
            if not info.isfile() or _is_hidden(info.name):
                continue
            opens = _Taped(tar, info).open
            if info.issparse():
                opens = _refused(OSError(errno.EFBIG, "it is stored with holes: unpack the archive first"))
            yield LogObject(info.name, opens, size=max(0, info.size)), file.tell
    if not has_end:
        raise tarfile.ReadError("its end is missing")


class _Taped:
    """A member of a tar, of which the first bytes are held."""

    def __init__(self, tar: tarfile.TarFile, info: tarfile.TarInfo) -> None:
        self._tar = tar
        self._info = info
        self._stream: Readable = io.BytesIO()
        self._start: bytes | None = None
        self._is_passed = False

    def open(self) -> BinaryIO:
        """From the start. OSError where an earlier reading went beyond what is held."""
        if self._start is None:
            with _as_oserror():
                self._stream = self._tar.extractfile(self._info) or self._stream
                self._start = self._stream.read(_HELD_BYTES)
        if self._info.size <= len(self._start):
            return io.BytesIO(self._start)
        if self._is_passed:
            raise OSError(errno.ESPIPE, "a file in a tar cannot be read again")
        start = io.BytesIO(self._start)
        return io.BufferedReader(_Checked(lambda size: start.read(size) or self._rest(size)), _COPY_BYTES)

    def _rest(self, size: int) -> bytes:
        self._is_passed = True
        return self._stream.read(size)


class _Checked(io.RawIOBase):
    """A stream of a member, whose faults are OSErrors."""

    def __init__(self, read: Callable[[int], bytes]) -> None:
        super().__init__()
        self._read = read

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer).cast("B")
        with _as_oserror():
            data = self._read(len(view))
        view[: len(data)] = data
        return len(data)


@contextmanager
def _as_oserror() -> Iterator[None]:
    try:
        yield
    except _FAULTS as error:
        raise OSError(errno.EIO, f"it cannot be unpacked ({error})") from error


def _refused(error: OSError) -> Callable[[], BinaryIO]:
    def refuse() -> NoReturn:
        raise error

    return refuse


def _is_hidden(name: str) -> bool:
    parts = name.replace("\\", "/").split("/")
    return any((part.startswith(".") and part.strip(".")) or part == "__MACOSX" for part in parts)


def text_of(name: str) -> str:
    r"""A name as text that every table can hold: a byte that is no UTF-8 becomes `\xNN`."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def escaped(name: str) -> str:
    r"""As `text_of`, and no two names give the same: a backslash that would be taken for the beginning of
    `\xNN` becomes `\x5c`."""
    if name.isascii() and "\\" not in name:
        return name
    return _LIKE_A_BYTE.sub(rb"\\x5c", os.fsencode(name)).decode("utf-8", "backslashreplace")


def _unambiguous(name: str, number: int) -> str:
    """What the member of this name, the so-manieth of it, is called; no two are called the same."""
    text = _SLASHES.sub(r"\\x2f", escaped(name))
    return text if number == 1 else f"{number}{INSIDE}{text}"
