"""The steps of Dockerfile.cpu, run for real: its pip install in a bare environment, then its command as it would run.

Where Linux lets us (root), that is in namespaces of its own: uid 10001, no capabilities, a read-only root, a /tmp that
nothing can be started from, a /dev/shm of its own, no network but loopback.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.docker.files import DOCKER, ROOT, context, instructions

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]  # a busy machine unpacks a gigabyte for longer than 300 s

DOCKERFILE = DOCKER / "Dockerfile.cpu"
PREFIX = "/opt/newsdesk"
UID = "10001"
# What python:3.11-slim-bookworm has beside Python: its own packages' libraries need no apt-get.
SLIM = {"libc6", "libstdc++6", "libgcc-s1", "zlib1g"}
ASK = """
import json, os, sys, urllib.request
request = urllib.request.Request("http://127.0.0.1:8080/v1/classify", json.dumps({"text": sys.argv[2]}).encode(),
                                 {"Content-Type": "application/json", "X-API-Key": sys.argv[1]})
print(urllib.request.urlopen(request, timeout=10).read().decode())
"""


@pytest.fixture(scope="module")
def image() -> Iterator[Path]:
    """Yield a folder with what the image would hold: opt/newsdesk, installed by the Dockerfile's own commands."""
    folder = Path(tempfile.mkdtemp(prefix="newsdesk-image-", dir="/var/tmp"))
    folder.chmod(0o755)
    try:
        source = folder / "src"
        for file in context():
            (source / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / file, source / file)
        steps = instructions(DOCKERFILE)
        first = steps[: [i for i, (word, _) in enumerate(steps) if word == "FROM"][1]]
        for step in (rest for word, rest in first if word == "RUN"):
            here = step.replace(PREFIX, str(folder / PREFIX[1:]))
            assert here.startswith("python3 ")
            environment = {"PATH": f"{Path(sys.executable).resolve().parent}:{os.environ['PATH']}", "HOME": _home()}
            environment |= {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
            environment["PIP_NO_COMPILE"] = "1"  # half of the time, and nothing that a test could see
            _install(here, source, environment)
        yield folder
    finally:
        shutil.rmtree(folder)


def _install(step: str, source: Path, environment: dict[str, str]) -> None:
    """Run a step. A test that is broken off ends pip, too, which would write on into a folder that is removed."""
    log = source.with_suffix(".txt")
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["sh", "-c", step], cwd=source, env=environment, stdout=output, stderr=output, start_new_session=True
        )
    try:
        assert process.wait() == 0, log.read_text()
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def test_the_image_holds_the_pinned_versions_and_no_torch(image: Path) -> None:
    listed = _run(image, "pip", "list", "--format", "json")
    installed = {re.sub(r"[-_.]+", "-", package["name"].lower()): package["version"] for package in json.loads(listed)}
    pinned = dict(line.split("==") for line in (DOCKER / "constraints.txt").read_text().splitlines() if "==" in line)
    ours = {name: version for name, version in installed.items() if name not in ("pip", "setuptools", "newsdesk")}
    assert ours == pinned
    assert not {"torch", "transformers"} & ours.keys()


def test_no_library_is_missing_in_a_slim_image(image: Path) -> None:
    """The base image has all that tritonserver, its backend and the engines load from the system."""
    packages = image / PREFIX[1:] / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
    triton = packages / "pytriton" / "tritonserver"
    binaries = [triton / "bin/tritonserver", triton / "backends/python/libtriton_python.so"]
    binaries += [next(packages.glob(f"{name}/**/*.so")) for name in ("onnxruntime", "tokenizers", "msgspec")]
    environment = {"LD_LIBRARY_PATH": str(packages / "nvidia_pytriton.libs"), "PATH": os.environ["PATH"]}
    output = subprocess.run(["ldd", *binaries], env=environment, capture_output=True, text=True, check=True).stdout
    assert "not found" not in output
    loaded = set(re.findall(r"=> (/\S+) \(", output))
    system = {Path(path).resolve() for path in loaded if not path.startswith(str(packages))}
    owners = {_owner(path) for path in system}
    assert owners <= SLIM, owners - SLIM


@pytest.mark.skipif(os.geteuid() != 0, reason="to mount and to be another user takes root")
def test_it_serves_as_nobody_on_a_read_only_root(image: Path) -> None:
    last = dict(instructions(DOCKERFILE))
    inside = _Inside(image)
    try:
        key = inside.run("newsdesk", "keys", "create", "me").strip()
        inside.start(*json.loads(last["ENTRYPOINT"]), *json.loads(last["CMD"]))
        probe = json.loads(last["HEALTHCHECK"].partition("CMD ")[2])
        deadline = time.monotonic() + 600  # it reads a gigabyte that was just written
        while inside.enter(*probe).returncode != 0:
            assert inside.process.poll() is None, inside.log.read_text()
            assert time.monotonic() < deadline, inside.log.read_text()
            time.sleep(0.5)
        answer = inside.enter("python3", "-c", ASK, key, "Keeper saves two penalties in the final")
        assert json.loads(answer.stdout)["items"][0]["label"] == "Sports", answer.stderr
        refused = inside.enter("python3", "-c", ASK, "nd_wrong", "whatever")
        assert "401" in refused.stderr
        owners = {Path(f"/proc/{pid}").stat().st_uid for pid in inside.family()}
        assert owners == {int(UID)}
        assert inside.enter("touch", "/x").returncode == 1
        inside.stop()
        assert inside.process.returncode == 0, inside.log.read_text()
    finally:
        inside.kill()


class _Inside:
    """A command in namespaces like a container's, and others that enter them."""

    def __init__(self, image: Path) -> None:
        self._image, self._state = image, image / "state"
        self._state.mkdir()
        shutil.copytree(ROOT / "model_repository", image / "srv" / "model_repository")
        os.chown(self._state, int(UID), int(UID))
        self.log = image / "log"
        last = [rest for word, rest in instructions(DOCKERFILE) if word == "ENV"][-1]
        variables = dict(re.findall(r"(NEWSDESK_\w+)=(\S+)", last))
        variables |= {"NEWSDESK_TARGET": "openvino:int8", "NEWSDESK_INSTANCES": "1"}  # the quickest start
        variables["NEWSDESK_STATE"] = str(self._state)
        variables["NEWSDESK_MODEL_REPOSITORY"] = str(image / "srv" / "model_repository")
        path = f"{image / PREFIX[1:] / 'bin'}:/usr/local/bin:/usr/bin:/bin"
        self._environment = {"PATH": path, "HOME": str(self._state), "PYTHONDONTWRITEBYTECODE": "1", **variables}

    def _script(self, command: tuple[str, ...]) -> list[str]:
        base = Path(sys.base_prefix).resolve()
        open_up = ""
        if base.is_relative_to("/root"):  # a Python in root's own home is for root alone
            open_up = (
                f"mkdir -p {self._image}/python && mount --bind {base} {self._image}/python && "
                f"mount -t tmpfs -o mode=755 tmpfs /root && mkdir -p {base} && "
                f"mount --bind {self._image}/python {base} && "
            )
        script = (
            f"ip link set lo up && {open_up}mount --bind {self._state} {self._state} && "
            "mount -t tmpfs -o noexec,mode=1777 tmpfs /tmp && mount -t tmpfs -o size=64m,mode=1777 tmpfs /dev/shm && "
            'mount -o remount,ro,bind / && cd / && exec setpriv "$@"'
        )
        nobody = ["--reuid", UID, "--regid", UID, "--clear-groups", "--no-new-privs", "--bounding-set=-all"]
        return ["unshare", "-mnp", "--fork", "--mount-proc", "--kill-child", "sh", "-c", script, "-", *nobody, *command]

    def run(self, *command: str) -> str:
        done = subprocess.run(self._script(command), env=self._environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def start(self, *command: str) -> None:
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                self._script(command), env=self._environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )

    def family(self) -> list[int]:
        """Return the pids, as seen from outside, of what runs inside; unshare itself stays outside."""
        return [child.pid for child in psutil.Process(self.process.pid).children(recursive=True)]

    def enter(self, *command: str) -> subprocess.CompletedProcess[str]:
        deadline = time.monotonic() + 10
        while not (family := self.family()) and time.monotonic() < deadline:
            time.sleep(0.02)
        first = family[0]
        into = ["nsenter", "-t", str(first), "-m", "-n", "-p", "setpriv", "--reuid", UID, "--clear-groups", *command]
        return subprocess.run(into, env=self._environment, capture_output=True, text=True, check=False)

    def stop(self) -> None:
        """SIGTERM to the command, which is the first process inside, as a container's engine does it."""
        os.kill(self.family()[0], 15)
        self.process.wait(30)

    def kill(self) -> None:
        if hasattr(self, "process") and self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def _run(image: Path, program: str, *arguments: str) -> str:
    command = [str(image / PREFIX[1:] / "bin" / program), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={"HOME": _home(), "PATH": "/bin"})
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _owner(path: Path) -> str:
    if path.is_relative_to(Path(sys.base_prefix).resolve()):
        return "libc6"  # Python's own library: the base image's, too
    for way in path, Path(str(path).removeprefix("/usr")):
        done = subprocess.run(["dpkg", "-S", str(way)], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return done.stdout.split(":")[0]
    return str(path)


def _home() -> str:
    return os.environ.get("HOME", "/root")
