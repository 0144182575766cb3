"""Fetches one hash-pinned wheel's programs with the standard library alone.

For a system whose python3 has neither pip nor venv. Runs on Python 3.5 and newer. The package index is PIP_INDEX_URL,
proxies come from the environment, certificates from PIP_CERT or the system.

    python3 -I scripts/fetch_wheel.py PIN_FILE TARGET      writes TARGET/bin/<program>
"""
import hashlib
import html
import io
import os
import re
import ssl
import sys
import urllib.parse
import urllib.request
import zipfile

DEFAULT_INDEX = "https://pypi.org/simple"
PLATFORM = {"linux": "manylinux", "darwin": "macosx"}


def read_pin(path: str) -> tuple:
    """Returns (name, version, set of SHA-256) of the file's one requirement."""
    with open(path, encoding="utf-8") as stream:
        text = stream.read()
    requirement = re.search(r"^([\w.-]+)==([\w.]+)", text)
    if not requirement:
        raise ValueError("%s pins nothing" % path)
    return requirement.group(1), requirement.group(2), set(re.findall(r"--hash=sha256:([0-9a-f]{64})", text))


def fetch(url: str) -> bytes:
    """Returns what the URL holds; OSError if it cannot be read."""
    context = ssl.create_default_context(cafile=os.environ.get("PIP_CERT") or None)
    request = urllib.request.Request(url, headers={"Accept": "text/html"})
    with urllib.request.urlopen(request, timeout=60, context=context) as answer:
        return answer.read()


def find_wheel(page: str, base: str, pin: tuple) -> str:
    """Returns the URL of the pinned wheel for this platform on an index page; ValueError if there is none."""
    name, version, hashes = pin
    platform = PLATFORM.get(sys.platform, sys.platform)
    for link in re.findall(r'href="([^"]+)"', page):
        url, _, fragment = urllib.parse.urljoin(base, html.unescape(link)).partition("#")
        file = url.rsplit("/", 1)[-1]
        if (file.startswith("%s-%s-" % (name, version)) and platform in file
                and ("=" not in fragment or fragment.split("=", 1)[1] in hashes) and "x86_64" in file):
            return url
    raise ValueError("%s offers no pinned %s %s for %s" % (base, name, version, sys.platform))


def unpack_programs(wheel: bytes, target: str) -> None:
    """Writes the wheel's programs to `target`/bin, executable."""
    folder = os.path.join(target, "bin")
    os.makedirs(folder, exist_ok=True)
    with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
        for name in archive.namelist():
            if ".data/scripts/" in name and not name.endswith("/"):
                path = os.path.join(folder, os.path.basename(name))
                with open(path, "wb") as stream:
                    stream.write(archive.read(name))
                os.chmod(path, 0o755)


def main(pin_file: str, target: str) -> int:
    """Fetches, checks and unpacks; returns the exit status."""
    pin = read_pin(pin_file)
    base = "%s/%s/" % (os.environ.get("PIP_INDEX_URL", DEFAULT_INDEX).rstrip("/"), pin[0])
    try:
        wheel = fetch(find_wheel(fetch(base).decode("utf-8"), base, pin))
    except (OSError, ValueError) as error:
        print("%s: %s" % (base, error), file=sys.stderr)
        return 1
    if hashlib.sha256(wheel).hexdigest() not in pin[2]:
        print("%s: the wheel differs from its pinned hash" % base, file=sys.stderr)
        return 1
    unpack_programs(wheel, target)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
