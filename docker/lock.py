"""Write the packages of the images with the hash of each file: `make constraints`.

Versions are those of constraints.txt, and the newest ones of what it does not name. Only wheels of Linux are listed, so
that no image builds a package from source. An image installs them with pip's --require-hashes, then newsdesk itself.
"""

import subprocess
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

DOCKER = Path(__file__).parent
CONSTRAINTS = DOCKER / "constraints.txt"
X86, ARM = "x86_64-manylinux_2_35", "aarch64-manylinux_2_35"
BUILD = "setuptools"
"""The package that installs newsdesk itself."""
FILES = {
    "requirements-3.11.txt": ("3.11.9", [X86], ["newsdesk[serve,gateway]", BUILD]),
    "requirements-3.12.txt": ("3.12.3", [X86, ARM], ["newsdesk[ensemble,gateway]", BUILD]),
    "requirements-cuda-12.txt": ("3.12.3", [X86, ARM], ["cuda-bindings==12.*"]),
    "requirements-cuda-13.txt": ("3.12.3", [X86, ARM], ["cuda-bindings==13.*"]),
}
"""The Python of each file's images, their platforms and what is installed."""
HEAD = "# {}, with all that it needs, for Python {}. Written by docker/lock.py (`make constraints`).\n"


def main() -> None:
    for name, (python, platforms, wanted) in FILES.items():
        hashes: dict[str, set[str]] = {}
        for platform in platforms:
            for package in resolved(python, platform, wanted):
                pin = f"{package['name']}=={package['version']}"
                hashes.setdefault(pin, set()).update(wheel["hashes"]["sha256"] for wheel in package["wheels"])
        lines = [
            " \\\n".join([pin, *(f"    --hash=sha256:{digest}" for digest in sorted(hashes[pin]))])
            for pin in sorted(hashes)
        ]
        head = HEAD.format(" and ".join(wanted), python.rpartition(".")[0])
        (DOCKER / name).write_text(head + "\n".join(lines) + "\n")


def resolved(python: str, platform: str, wanted: list[str]) -> Iterator[dict]:
    """Yield the packages that uv resolves for a platform, each with its wheels."""
    with tempfile.TemporaryDirectory() as folder:
        asked, lock = Path(folder) / "requirements.in", Path(folder) / "pylock.toml"
        here = f" @ {DOCKER.parent.as_uri()}"
        asked.write_text("\n".join(line + here * line.startswith("newsdesk") for line in wanted))
        options = {"--constraint": CONSTRAINTS, "--python-version": python, "--python-platform": platform}
        options |= {"--format": "pylock.toml", "--output-file": lock, "--only-binary": ":all:"}
        command = ["uv", "pip", "compile", "--quiet", "--no-binary", "newsdesk", asked]
        subprocess.run([*command, *(str(part) for pair in options.items() for part in pair)], check=True)
        packages = tomllib.loads(lock.read_text())["packages"]
    yield from (package for package in packages if package["name"] != "newsdesk")


if __name__ == "__main__":
    main()
