"""Finds the raw files in a folder or an archive, and downloads the archive.

Of an archive only the wanted files and nested archives are unpacked, into files whose names are chosen here; a member
whose own name leaves the archive, or that is no regular file, makes the archive unusable. Members are counted, and the
sizes that they announce are added up, before any of them is unpacked; what is really read is bounded as well.
"""
import bz2
import contextlib
import gzip
import hashlib
import http.client
import io
import os
import posixpath
import socket
import tarfile
import time
import urllib.error
import urllib.parse
import urllib.request
import zipfile
import zlib
from typing import IO, Any, Dict, Iterator, List, Optional, Tuple

from feature_specs.errors import ConfigError, DataError
from feature_specs.files import temporary_name

DOWNLOAD_URL = "https://archive.ics.uci.edu/static/public/117/census+income+kdd.zip"
TRAIN_NAME, TEST_NAME = "census-income.data", "census-income.test"
#: Most bytes of a download, and most that are unpacked from one archive, nested ones included.
MAX_DOWNLOAD_BYTES, MAX_UNPACKED_BYTES = 1 << 30, 1 << 30
_MAX_DEPTH = 4
_MAX_MEMBERS = 10000
_BLOCK = 1 << 18
_ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2")


def find_files(source: str, directory: str, max_bytes: int = MAX_UNPACKED_BYTES) -> Tuple[str, str]:
    """Finds the training and the test file.

    Args:
        source: a folder that holds them (plain or ``.gz``) or one of the archives, or a zip or tar archive.
        directory: existing folder to unpack archives into.
        max_bytes: most bytes to unpack.

    Returns:
        (path of the training file, path of the test file).

    Raises:
        DataError: ``source`` is missing, damaged, unsafe, too large unpacked, or lacks one of the files.
    """
    found: Dict[str, str] = {}
    if os.path.isdir(source):
        names = sorted(os.listdir(source))
        for name in names:
            if _wanted(name):
                found.setdefault(_wanted(name), os.path.join(source, name))
        archives = [name for name in names if name.lower().endswith(_ARCHIVES)]
        if len(found) < 2 and archives:
            unpacker = _Unpacker(directory, max_bytes)
            for name in archives:
                unpacker.unpack(os.path.join(source, name), name, 1)
            found = dict(unpacker.found, **found)
    elif os.path.isfile(source):
        unpacker = _Unpacker(directory, max_bytes)
        unpacker.unpack(source, os.path.basename(source), 1)
        found = unpacker.found
    else:
        raise DataError("source %s does not exist; give a folder or the archive of the data set" % source)
    missing = [name for name in (TRAIN_NAME, TEST_NAME) if name not in found]
    if missing:
        raise DataError("source %s does not hold %s (plain or .gz); give the folder or archive that does"
                        % (source, " and ".join(missing)))
    return found[TRAIN_NAME], found[TEST_NAME]


def check_url(url: str) -> None:
    """Raises ConfigError where an address is no http or https one."""
    try:
        scheme = urllib.parse.urlsplit(url).scheme
    except ValueError:
        scheme = ""
    if scheme not in ("http", "https"):
        raise ConfigError("download_url %r: give an http or https address" % url)


def download(url: str, path: str, sha256: Optional[str] = None, timeout: float = 60.0, attempts: int = 3,
             wait: float = 1.0, max_bytes: int = MAX_DOWNLOAD_BYTES) -> str:
    """Downloads a file, which appears under its name only when it is whole.

    Args:
        url: http or https address.
        path: file to make.
        sha256: expected hash, as hexadecimal text.
        timeout: seconds without an answer after which an attempt ends.
        attempts: most attempts; only failures that may pass are tried again.
        wait: seconds before the second attempt, doubled for each further one.
        max_bytes: most bytes that are accepted.

    Returns:
        ``path``.

    Raises:
        DataError: the file cannot be had, is cut off or too large, has another hash, or the server sends the
            client to another kind of address.
        ConfigError: the address or the hash is not valid.
    """
    check_url(url)
    if sha256 is not None and (len(sha256) != 64 or not set(sha256.lower()) <= set("0123456789abcdef")):
        raise ConfigError("download_sha256 %r: give 64 hexadecimal digits" % sha256)
    temporary = temporary_name(path + ".partial-")
    try:
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        for attempt in range(attempts):
            try:
                found = _fetch(url, temporary, timeout, max_bytes)
                break
            except (urllib.error.URLError, http.client.HTTPException, socket.timeout, ConnectionError,
                    _CutOffError) as error:
                permanent = isinstance(error, urllib.error.HTTPError) and 400 <= error.code < 500
                if permanent or attempt + 1 == attempts:
                    raise DataError("%s cannot be downloaded: %s; download it by other means and give it with --source"
                                    % (url, error)) from error
                time.sleep(wait * 2 ** attempt)
        if sha256 is not None and found != sha256.lower():
            raise DataError("%s has SHA-256 %s, expected %s; it is not kept" % (url, found, sha256.lower()))
        os.replace(temporary, path)
    except OSError as error:
        raise DataError("%s cannot be written: %s" % (path, error)) from error
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)
    return path


class _CutOffError(Exception):
    """The connection ended before the announced size."""


class _SameScheme(urllib.request.HTTPRedirectHandler):
    """Follows redirects that stay with the scheme; https may not become http, or either a local file."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        """Refuses a redirect to another scheme; else as the base class."""
        if urllib.parse.urlsplit(newurl).scheme != urllib.parse.urlsplit(req.full_url).scheme:
            raise DataError("%s redirects to %s, another kind of address; not followed" % (req.full_url, newurl))
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _fetch(url: str, path: str, timeout: float, max_bytes: int) -> str:
    digest, size = hashlib.sha256(), 0
    opener = urllib.request.build_opener(_SameScheme)
    with opener.open(url, timeout=timeout) as answer, open(path, "wb") as stream:
        announced = int(answer.headers.get("Content-Length") or 0)
        while True:
            data = answer.read(_BLOCK)
            size += len(data)
            if max(announced, size) > max_bytes:
                raise DataError("%s has more than %d bytes; it is not the data set" % (url, max_bytes))
            if not data:
                break
            stream.write(data)
            digest.update(data)
        if announced and size != announced:
            raise _CutOffError("got %d of %d bytes" % (size, announced))
        stream.flush()
        os.fsync(stream.fileno())
    return digest.hexdigest()


class _Bounded(io.RawIOBase):
    """Reads a stream up to a number of bytes."""

    def __init__(self, stream: Any, max_bytes: int, shown: str) -> None:
        self._stream, self._left, self._shown = stream, max_bytes, shown

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._stream.read(len(buffer))
        self._left -= len(data)
        if self._left < 0:
            raise DataError("%s holds too many bytes; it is not the data set" % self._shown)
        buffer[:len(data)] = data
        return len(data)


class _Unpacker:
    """Unpacks the wanted files of an archive and of the archives in it."""

    def __init__(self, directory: str, max_bytes: int) -> None:
        self.found: Dict[str, str] = {}
        self._directory = directory
        self._left = max_bytes
        self._max_bytes = max_bytes
        self._members = self._announced = self._files = 0

    def unpack(self, path: str, shown: str, depth: int) -> None:
        """Unpacks one archive; ``shown`` is its name in messages."""
        if depth > _MAX_DEPTH:
            raise DataError("%s: archives are nested more than %d deep" % (shown, _MAX_DEPTH))
        try:
            nested = self._unpack_zip(path, shown) if zipfile.is_zipfile(path) else self._unpack_tar(path, shown)
        except tarfile.ReadError as error:
            raise DataError("%s is neither a zip nor a tar archive, or is damaged; get it again" % shown) from error
        except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, OSError, RuntimeError,
                NotImplementedError) as error:
            raise DataError("%s cannot be unpacked: %s; get it again" % (shown, error)) from error
        for inner, name in nested:
            self.unpack(inner, "%s in %s" % (name, shown), depth + 1)
            os.unlink(inner)

    def _unpack_zip(self, path: str, shown: str) -> List[Tuple[str, str]]:
        nested: List[Tuple[str, str]] = []
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            self._count(len(members), sum(member.file_size for member in members), shown)
            for member in members:
                # The upper half holds the Unix mode, where the archive was made on such a system.
                kind = (member.external_attr >> 16) & 0o170000
                self._check(member.filename, kind in (0, 0o100000, 0o040000), shown)
                if not member.is_dir() and self._is_of_use(member.filename):
                    with archive.open(member) as stream:
                        self._take(stream, member.filename, shown, nested)
        return nested

    def _unpack_tar(self, path: str, shown: str) -> List[Tuple[str, str]]:
        nested: List[Tuple[str, str]] = []
        # Twice: the first time nothing is unpacked.
        for is_dry in (True, False):
            with self._open_tar(path, shown) as archive:
                for member in archive:
                    if is_dry:
                        self._count(1, member.size, shown)
                        self._check(member.name, member.isreg() or member.isdir(), shown)
                    elif member.isreg() and self._is_of_use(member.name):
                        stream = archive.extractfile(member)
                        if stream is not None:
                            with stream:
                                self._take(stream, member.name, shown, nested)
        return nested

    @contextlib.contextmanager
    def _open_tar(self, path: str, shown: str) -> Iterator[tarfile.TarFile]:
        """Opens an archive as a stream that ends with an error after the bytes that are left."""
        with open(path, "rb") as raw:
            magic = raw.read(3)
            raw.seek(0)
            plain: Any = gzip.GzipFile(fileobj=raw) if magic[:2] == b"\x1f\x8b" else bz2.BZ2File(
                raw) if magic == b"BZh" else raw
            bounded = io.BufferedReader(_Bounded(plain, self._max_bytes + (_MAX_MEMBERS << 11), shown))
            with tarfile.open(fileobj=bounded, mode="r|") as archive:
                yield archive

    def _count(self, members: int, size: int, shown: str) -> None:
        self._members += members
        self._announced += size
        if self._members > _MAX_MEMBERS:
            raise DataError("%s has more than %d members; it is not the data set" % (shown, _MAX_MEMBERS))
        if self._announced > self._max_bytes:
            raise DataError("%s holds more than %d bytes; it is not the data set" % (shown, self._max_bytes))

    @staticmethod
    def _check(name: str, is_plain: bool, shown: str) -> None:
        parts = name.replace("\\", "/").split("/")
        if name.startswith(("/", "\\")) or ".." in parts or ":" in parts[0]:
            raise DataError("%s: member %r would be outside of the archive's folder; not unpacked" % (shown, name))
        if not is_plain:
            raise DataError("%s: member %r is a link or a device; not unpacked" % (shown, name))

    @staticmethod
    def _is_of_use(name: str) -> bool:
        base = posixpath.basename(name)
        return bool(_wanted(base)) or base.lower().endswith(_ARCHIVES)

    def _take(self, stream: IO[bytes], name: str, shown: str, nested: List[Tuple[str, str]]) -> None:
        base = posixpath.basename(name)
        wanted = _wanted(base)
        if wanted and wanted in self.found:
            return
        if wanted:
            target = os.path.join(self._directory, base)
        else:
            self._files += 1
            target = os.path.join(self._directory, "nested-%d" % self._files)
        with open(target, "wb") as output:
            while True:
                data = stream.read(_BLOCK)
                if not data:
                    break
                self._left -= len(data)
                if self._left < 0:
                    raise DataError("%s holds more than %d bytes; it is not the data set" % (shown, self._max_bytes))
                output.write(data)
        if wanted:
            self.found[wanted] = target
        else:
            nested.append((target, base))


def _wanted(name: str) -> str:
    """Returns which of the two files this is, or an empty text."""
    plain = name[:-3] if name.endswith(".gz") else name
    return plain if plain in (TRAIN_NAME, TEST_NAME) else ""
