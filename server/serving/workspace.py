"""A server's own directory: backends, caches and a rendered model repository, made anew for each start.

Neither the given model repository nor site-packages is ever written to. The directory's name, which is also the prefix
of the server's files in /dev/shm, says whose it is: what a killed server left is removed by the next start.
"""

import contextlib
import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec

from newsdesk.server.machine import processes, servers
from newsdesk.server.machine.servers import Served
from newsdesk.server.runtime import manifest
from newsdesk.server.runtime.engines import rewrites
from newsdesk.server.runtime.manifest import CONFIG
from newsdesk.server.runtime.repository import RepositoryError, configuration, latest_version
from newsdesk.server.serving import privacy

SHM = Path("/dev/shm")
GENERATION = "generation"
_RUN = """\
# Runs the model.py of a folder that Triton does not watch.
import importlib.util
import sys

_spec = importlib.util.spec_from_file_location("rendered_model", {file!r})
_module = importlib.util.module_from_spec(_spec)
sys.modules[_spec.name] = _module
_spec.loader.exec_module(_module)


class TritonPythonModel(_module.TritonPythonModel):
    def initialize(self, args):
        if hasattr(super(), "initialize"):
            super().initialize({{**args, "model_repository": {rendering!r}}})
"""
_QUEUE_SECONDS = 60


class Workspace:
    """Folders of a server.

    The repository that Triton reads holds a link for each model, to the generation of it in place. Triton looks every
    second whether the link's generation has changed, and starts fresh backend processes then. A generation is written
    once, and the link is changed in one rename. It holds nothing but a configuration and a `model.py` that runs the one
    of a rendering beside it. A rendering is made of hard links: whoever links or unlinks such a file elsewhere changes
    it in Triton's eyes.
    """

    def __init__(self, state: Path) -> None:
        me = processes.myself()
        self.name = f"newsdesk-{processes.pid_namespace():x}-{me.pid}-{me.start}-{secrets.token_hex(2)}"
        self.shm_prefix = f"{self.name}-"
        self.state = state
        self.root = state / "run" / self.name
        self.backends = self.root / "backends"
        self.caches = self.root / "caches"
        self.repository = self.root / "repository"
        """The model repository as it is served: links to renderings, by the models' names."""
        self.watched = self.root / "watched"
        """The model repository that Triton looks at."""
        self.compiled = self.root / "compiled"
        """Graphs as the first backend processes compiled them: the next ones start sooner."""
        self.heartbeats = self.root / "heartbeats"
        """The folder of the files by which backend processes show that they work."""
        self.lifeline = self.root / "lifeline"
        """A FIFO by which backend processes see their server end."""
        self.renderings = self.root / "renderings"
        """Models as they are served, generation by generation: a version's files, and what is rewritten of them."""
        self._generations = self.root / "generations"
        self._wishes = self.root / "wishes"
        self._count = 0
        self._renderings_of: dict[str, Path] = {}
        self._proven: dict[str, str] = {}
        self._served: dict[str, Served] = {}

    def lay_out(self, backend: Path, caches: Path, stub: Path) -> None:
        """Make the directory: Triton's packaged files by link, the stub as a copy, because Triton may chmod it."""
        privacy.make_folder(self.state)
        privacy.make_folder(self.root)
        python = self.backends / "python"
        python.mkdir(parents=True)
        made = self.repository, self.watched, self.heartbeats, self.renderings, self._generations, self._wishes
        for folder in made:
            folder.mkdir()
        os.mkfifo(self.lifeline, 0o600)
        for file in backend.iterdir():
            if file.is_file() and file.name != stub.name:
                (python / file.name).symlink_to(file)
        shutil.copy2(stub, python / stub.name)
        self.caches.symlink_to(caches)

    def render(
        self,
        source: Path,
        parameters: dict[str, str],
        instances: int,
        cached: bool = False,
        delay: int | None = None,
        version: Path | None = None,
        name: str = "",
        rewritten: Mapping[Path, Path] = MappingProxyType({}),
    ) -> str:
        """Make a generation of a model folder's version, for `place`, and return its number.

        Args:
            source: the model's folder
            parameters: of the backend, as its configuration carries them
            instances: backend processes
            cached: whether Triton's response cache is asked
            delay: microseconds that a request may wait for others; None leaves the model's own
            version: a version folder; None means the latest
            name: to serve it by; empty: the folder's
            rewritten: files to have beside the version's own, by their places below its folder

        Raises:
            RepositoryError: the configuration asks for what newsdesk does not keep to, or there is no version.
            ManifestError: the files that Triton runs are not those that were built.
            OSError: a full disk.
        """
        version, name = version or latest_version(source), name or source.name
        manifest.check_code(version)
        check_configurations(version)
        config = _configured(configuration(version), parameters, instances, cached, delay)
        config.name = name
        self._count += 1
        rendering = self.renderings / name / str(self._count)
        try:
            _place(version, rendering / version.name)
            for stray in (file for form in rewrites.FORMS for file in rendering.rglob(f"*.{form}")):
                stray.unlink()  # of another rendering that was copied, perhaps from another machine
            for place, file in rewritten.items():
                with contextlib.suppress(FileNotFoundError):  # another server removed it: nothing needs it
                    _place(file, rendering / version.name / place)
            for file in source.iterdir():
                if file.is_file() and file.name != CONFIG:
                    _place(file, rendering / file.name)
            (rendering / CONFIG).write_text(_written(config), encoding="utf-8")
        except OSError:  # a full disk
            shutil.rmtree(rendering, ignore_errors=True)
            raise
        return self._generate(rendering)

    def renew(self, model: str) -> str:
        """Make a further generation of a model's proven one and return its number.

        It is the same but for a parameter that nothing reads: Triton keeps the backend processes, dead ones too, of a
        model that is as it was.
        """
        return self._generate(self._renderings_of[self._proven[model]])

    def _generate(self, rendering: Path) -> str:
        self._count += 1
        generation = self._generations / rendering.parent.name / str(self._count)
        config = _parse(rendering / CONFIG)
        config.parameters[GENERATION].string_value = generation.name
        (version,) = (folder for folder in rendering.iterdir() if folder.is_dir())
        try:
            (generation / version.name).mkdir(parents=True)
            (generation / version.name / "model.py").write_text(_run(rendering, version.name), encoding="utf-8")
            (generation / version.name / "__pycache__").touch()  # a folder there would be a change, too
            for file in rendering.iterdir():
                if file.is_file():
                    shutil.copy(file, generation / file.name)
            (generation / CONFIG).write_text(_written(config), encoding="utf-8")
        except OSError:  # a full disk
            shutil.rmtree(generation, ignore_errors=True)
            raise
        self._renderings_of[generation.name] = rendering
        return generation.name

    def place(self, model: str, generation: str) -> None:
        """Have a model's links name a generation and its rendering."""
        self._link(self.watched / model, self._generations / model / generation)
        self._link(self.repository / model, self._renderings_of[generation])

    def _link(self, link: Path, target: Path) -> None:
        partial = self.root / "link"
        partial.unlink(missing_ok=True)
        # A short target: a file system in memory needs a free page for one of more than 128 bytes.
        partial.symlink_to(os.path.relpath(target, link.parent))
        partial.replace(link)

    def prove(self, model: str, generation: str) -> None:
        """Note that a generation answers, and remove what is left of the model's others."""
        kept = self._generations / model / generation, self._renderings_of[generation]
        self._proven[model] = generation
        for folder in *(self._generations / model).iterdir(), *(self.renderings / model).iterdir():
            if folder not in kept:
                self._renderings_of.pop(folder.name, None)
                shutil.rmtree(folder, ignore_errors=True)

    def restore(self, model: str) -> str:
        """Have a model's links name its proven generation, whatever they name now, and return its number."""
        self.place(model, self._proven[model])
        return self._proven[model]

    def empty(self, model: str) -> None:
        """Have Triton see a model no more."""
        (self.watched / model).unlink(missing_ok=True)

    def record(self, model: str, served: Served) -> None:
        """Leave for other processes what this server serves."""
        self._served[model] = served
        partial = self.root / f"{servers.SERVED}.partial"
        partial.write_bytes(msgspec.json.encode(self._served))
        partial.replace(self.root / servers.SERVED)

    def take_wishes(self) -> dict[str, str]:
        """Return what other processes ask for since the last look: model → LOAD or UNLOAD."""
        wishes = {}
        for file in self._wishes.glob("[!.]*"):
            with contextlib.suppress(OSError):
                wishes[file.name] = file.read_text(encoding="utf-8")
                file.unlink()
        return wishes

    def clear_shm(self) -> None:
        """Remove what the server left in /dev/shm. The server must be dead."""
        _remove_shm(self.name)

    def remove(self) -> None:
        """Remove the directory. The server must be dead."""
        shutil.rmtree(self.root, ignore_errors=True)


def remove_dead(state: Path) -> list[str]:
    """Remove what servers that were killed left behind: run directories and files in /dev/shm. Returns their names."""
    dead = {name for owner, name in [*servers.owners(state / "run"), *servers.owners(SHM)] if not owner.alive}
    for name in dead:
        _remove_shm(name)
        shutil.rmtree(state / "run" / name, ignore_errors=True)
    return sorted(dead)


def _remove_shm(name: str) -> None:
    for file in SHM.glob(f"{name}-*"):
        try:
            file.unlink()
        except OSError:  # another user's: not ours to remove
            continue


def _place(source: Path, target: Path) -> None:
    """Hard-link a file or a folder's files, or copy where the file system refuses."""
    if source.is_dir():
        target.mkdir(parents=True)
        for entry in source.iterdir():
            if entry.name != "__pycache__":
                _place(entry, target / entry.name)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copy2(source, target)


def _run(rendering: Path, version: str) -> str:
    return _RUN.format(file=str(rendering / version / "model.py"), rendering=str(rendering))


def check_configurations(version: Path) -> None:
    """Check the configuration that is served, and the one beside it.

    Raises:
        RepositoryError: one asks for what newsdesk does not keep to.
    """
    for path in dict.fromkeys((configuration(version), version.parent / CONFIG)):
        _check_configuration(path, version.parent.name)


def _check_configuration(path: Path, model: str) -> None:
    config = _parse(path)
    if config.name not in ("", model):
        raise RepositoryError(
            f"{path}: the model's name is {config.name!r}, expected {model!r}, as its folder is called. Rename the "
            "folder, or build the model under that name (repository.model)."
        )
    policy = config.version_policy
    if policy.WhichOneof("policy_choice") not in (None, "latest") or policy.latest.num_versions > 1:
        shown = " ".join(_written(policy).split())
        raise RepositoryError(
            f"{path}: version_policy is {{ {shown} }}, expected none: newsdesk serves the version with the highest "
            "number alone. Remove it; `newsdesk rollback` goes back a version."
        )


def _configured(path: Path, parameters: dict[str, str], instances: int, cached: bool, delay: int | None) -> Any:
    config = _parse(path)
    for name, value in parameters.items():
        config.parameters[name].string_value = value
    del config.instance_group[:]
    group = config.instance_group.add()
    group.count, group.kind = instances, group.KIND_CPU
    config.response_cache.enable = cached
    if delay is not None:
        config.dynamic_batching.max_queue_delay_microseconds = delay
    # A request may say how long its client waits: one that has waited longer is refused and not computed. Triton takes
    # its word only where it is less than the model's own limit.
    policy = config.dynamic_batching.default_queue_policy
    policy.timeout_action, policy.allow_timeout_override = policy.REJECT, True
    policy.default_timeout_microseconds = policy.default_timeout_microseconds or _QUEUE_SECONDS * 10**6
    return config


def _parse(path: Path) -> Any:
    from google.protobuf import text_format
    from tritonclient.grpc import model_config_pb2

    try:
        return text_format.Parse(path.read_text(encoding="utf-8"), model_config_pb2.ModelConfig())
    except (OSError, UnicodeDecodeError, text_format.ParseError) as error:
        raise RepositoryError(f"{path}: not a model configuration: {error}. Restore or rebuild it.") from error


def _written(config: Any) -> str:
    from google.protobuf import text_format

    return text_format.MessageToString(config)
