"""The Kubernetes files: by the schemas of the API, the operators' own types, the Dockerfiles and newsdesk itself."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from cloudcoil.models.prometheus_operator.v1 import ServiceMonitor

from newsdesk.server.gateway.settings import GatewaySettings
from newsdesk.server.gateway.telemetry import Telemetry
from tests.docker.files import DOCKER, instructions
from tests.docker.test_install import UID

Document = dict[str, Any]

KUBERNETES = DOCKER / "kubernetes"
KUSTOMIZATIONS = sorted(KUBERNETES.rglob("kustomization.yaml"))
ALONE = {"prometheus-adapter.yaml", "secrets.example.yaml"}
"""Files that no kustomization names."""
KSERVE = {"ServingRuntime": "V1alpha1ServingRuntime", "InferenceService": "V1beta1InferenceService"}
OLDEST, NEWEST = "1.30", "1.37"
_KUSTOMIZE_4 = 21
"""The minor version of the first kubectl that has it."""


PATCHED = {"Deployment", "HorizontalPodAutoscaler", *KSERVE}


def documents(path: Path) -> list[Document]:
    return list(yaml.safe_load_all(path.read_text()))


MANIFESTS = [
    pytest.param(document, id=f"{path.relative_to(KUBERNETES)}:{document['kind']}")
    for path in sorted(KUBERNETES.rglob("*.yaml"))
    if path.name not in ("kustomization.yaml", "prometheus-adapter.yaml")
    for document in documents(path)
]


BASE = [
    document["kind"]
    for path in (KUBERNETES / "base").glob("*.yaml")
    if path.name != "kustomization.yaml"
    for document in documents(path)
]


def manifest(path: str, kind: str) -> Document:
    (wanted,) = [document for document in documents(KUBERNETES / path) if document["kind"] == kind]
    return wanted


def check(document: Document, *versions: str) -> None:
    """Fail for a field that is unknown or of the wrong type, or that is missing."""
    group = document["apiVersion"].partition("/")[0]
    if group == "monitoring.coreos.com":
        assert ServiceMonitor.model_validate(document).model_dump(by_alias=True, exclude_unset=True) == document
    elif group == "serving.kserve.io":
        assert misfits(document) == []
    else:
        for version in versions or (OLDEST, NEWEST):
            kubernetes_validate.validate(document, version, strict=True)


def misfits(document: Document) -> list[str]:
    """Return the places in a document that KServe's types do not have, or have as another type.

    A process of its own reads them: KServe's and Triton's messages have the same names, and one process holds one set.
    """
    program = [sys.executable, str(Path(__file__).with_name("kserve_types.py")), KSERVE[document["kind"]]]
    ran = subprocess.run(program, input=json.dumps(document), capture_output=True, text=True, check=True)
    return json.loads(ran.stdout)


@pytest.mark.parametrize("document", MANIFESTS)
def test_a_document_is_what_the_api_takes(document: Document) -> None:
    check(document)
    assert document["metadata"].get("namespace", "newsdesk") == "newsdesk"


@pytest.mark.parametrize(
    ("path", "kind", "place"),
    [
        ("base/deployment.yaml", "Deployment", "spec.template.spec.containers.0.readinesProbe"),
        ("base/monitor.yaml", "ServiceMonitor", "spec.endpoints.0.intervall"),
        ("kserve/runtime.yaml", "ServingRuntime", "spec.containers.0.comand"),
        ("kserve/service.yaml", "InferenceService", "spec.predictor.model.runtimes"),
    ],
)
def test_a_field_that_is_mistyped_is_noticed(path: str, kind: str, place: str) -> None:
    document = manifest(path, kind)
    *way, last = place.split(".")
    part: Any = document
    for step in way:
        part = part[int(step) if step.isdigit() else step]
    part[last] = "x"
    with pytest.raises((AssertionError, kubernetes_validate.ValidationError)):
        check(document)


@pytest.mark.parametrize("path", KUSTOMIZATIONS, ids=lambda path: path.parent.name)
def test_a_kustomization_names_what_there_is(path: Path) -> None:
    (asked,) = documents(path)
    named = asked["resources"] + [patch["path"] for patch in asked.get("patches", ())]
    assert all((path.parent / name).exists() for name in named)
    assert {file.name for file in path.parent.glob("*.yaml")} == {n for n in named if n[0] != "."} | {path.name}
    base = {
        (document["kind"], document["metadata"]["name"])
        for file in (KUBERNETES / "base").glob("*.yaml")
        if file.name != "kustomization.yaml"
        for document in documents(file)
    }
    for patch in asked.get("patches", ()):
        (document,) = documents(path.parent / patch["path"])
        assert (document["kind"], document["metadata"]["name"]) in base
    for image in asked.get("images", ()):
        assert image["name"] == container(manifest("base/deployment.yaml", "Deployment"))["image"]


def test_no_file_is_left_out() -> None:
    folders = {path.parent for path in KUSTOMIZATIONS}
    assert {file.name for file in KUBERNETES.rglob("*.yaml") if file.parent not in folders} == ALONE


def in_the_words_of(kubectl: str, tmp_path: Path) -> Path:
    """Return the files as this kubectl reads them.

    Debian 12's has kustomize 2, which says `bases` and `patchesStrategicMerge` where today's says `resources` and
    `patches`.
    """
    ran = subprocess.run([kubectl, "version", "--client", "-o", "json"], capture_output=True, check=True)
    if int(re.sub(r"\D", "", json.loads(ran.stdout)["clientVersion"]["minor"])) >= _KUSTOMIZE_4:
        return KUBERNETES
    copy = shutil.copytree(KUBERNETES, tmp_path / "kubernetes")
    for path in copy.rglob("kustomization.yaml"):
        (asked,) = documents(path)
        named = asked.pop("resources")
        asked["bases"] = [name for name in named if (path.parent / name).is_dir()]
        asked["resources"] = [name for name in named if name not in asked["bases"]]
        asked["patchesStrategicMerge"] = [patch["path"] for patch in asked.pop("patches", ())]
        path.write_text(yaml.safe_dump(asked))
    return copy


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="no Python package: apt-get install kubernetes-client")
@pytest.mark.parametrize("folder", ["overlays/cpu", "overlays/gpu", "kserve"])
def test_kustomize_makes_of_it_what_the_api_takes(folder: str, tmp_path: Path) -> None:
    command = ["kubectl", "kustomize", str(in_the_words_of("kubectl", tmp_path) / folder)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    made = list(yaml.safe_load_all(built.stdout))
    kinds = [document["kind"] for document in made]
    assert sorted(kinds) == sorted(KSERVE if folder == "kserve" else BASE)
    for document in made:
        if document["kind"] in PATCHED:
            check(document, NEWEST)
        if document["kind"] == "Deployment":
            assert container(document)["image"] == f"newsdesk:{Path(folder).name}"
            assert document["spec"]["template"]["spec"]["nodeSelector"]
            locked_up(document["spec"]["template"]["spec"])


def container(document: Document) -> Document:
    """Return the only container of a Deployment or a ServingRuntime."""
    spec = document["spec"]
    (only,) = (spec["template"]["spec"] if "template" in spec else spec)["containers"]
    return dict(only)


SERVERS = [("base/deployment.yaml", "Deployment"), ("kserve/runtime.yaml", "ServingRuntime")]


@pytest.mark.parametrize(("path", "kind"), SERVERS)
@pytest.mark.parametrize("dockerfile", ["Dockerfile", "Dockerfile.cpu"])
def test_a_container_is_started_as_its_dockerfile_says(path: str, kind: str, dockerfile: str) -> None:
    """And so as tests/docker/test_install.py runs that command, as that user, on a read-only root."""
    document = manifest(path, kind)
    ours = container(document)
    image = dict(instructions(DOCKER / dockerfile))
    assert ours["command"] == json.loads(image["ENTRYPOINT"])
    assert ours["args"] == json.loads(image["CMD"])
    pod = document["spec"].get("template", {}).get("spec", {})
    users = [context.get("runAsUser") for context in (pod.get("securityContext", {}), ours["securityContext"])]
    assert {str(user) for user in users if user} == {image["USER"]} == {UID}
    ports = {str(port["containerPort"]) for port in ours["ports"]}
    assert ports <= set(image["EXPOSE"].split())
    assert kind != "Deployment" or ports == set(image["EXPOSE"].split())
    mounts = {mount["mountPath"]: mount["name"] for mount in ours["volumeMounts"]}
    assert {image["VOLUME"], "/tmp", "/dev/shm"} <= mounts.keys()
    volumes = {volume["name"]: volume for volume in (pod or document["spec"])["volumes"]}
    assert volumes.keys() == set(mounts.values())
    # The run directory's files are started, and a file that is uploaded is kept in /tmp.
    assert "medium" not in volumes[mounts[image["VOLUME"]]]["emptyDir"]
    assert int(volumes[mounts["/tmp"]]["emptyDir"]["sizeLimit"][:-2]) * 1024 > GatewaySettings(keys=Path()).max_file_mib
    variables = {variable["name"]: variable["value"] for variable in ours["env"]}
    assert not variables.keys() & {"NEWSDESK_HOST", "NEWSDESK_EXPOSE", "NEWSDESK_INSECURE"}
    keys = Path(variables["NEWSDESK_KEYS"])
    (example, *_) = documents(KUBERNETES / "secrets.example.yaml")
    assert volumes[mounts[str(keys.parent)]]["secret"]["secretName"] == example["metadata"]["name"]
    assert keys.name in example["stringData"]


@pytest.mark.parametrize(("path", "kind"), SERVERS)
def test_a_pod_is_locked_up(path: str, kind: str) -> None:
    spec = manifest(path, kind)["spec"]
    locked_up(spec.get("template", {}).get("spec", spec))


def locked_up(pod: Document) -> None:
    for server in pod["containers"]:
        context = pod.get("securityContext", {}) | server["securityContext"]
        assert context["runAsNonRoot"]
        assert context["readOnlyRootFilesystem"]
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert context["allowPrivilegeEscalation"] is False
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert {"cpu", "memory"} <= server["resources"]["limits"].keys()
        assert server["resources"]["requests"].keys() <= server["resources"]["limits"].keys()


@pytest.mark.parametrize(("path", "kind"), SERVERS)
def test_the_probes_are_patient_with_a_server_that_heals_itself(path: str, kind: str) -> None:
    """It starts again what hangs after pauses of up to 30 s, and says by /health/ready alone that no model answers."""
    server = container(manifest(path, kind))
    image = dict(instructions(DOCKER / "Dockerfile.cpu"))
    assert server["readinessProbe"]["httpGet"]["path"] in image["HEALTHCHECK"]
    started = re.search(r"--start-period=(\d+)s", image["HEALTHCHECK"])
    assert started
    for probe, path_asked, seconds in (
        ("startupProbe", "/health/live", int(started[1])),
        ("livenessProbe", "/health/live", 60),
        ("readinessProbe", "/health/ready", 5),
    ):
        asked = server[probe]
        assert asked["httpGet"]["path"] == path_asked
        assert asked["httpGet"]["port"] in ("http", 8080)
        assert asked["periodSeconds"] * asked["failureThreshold"] >= seconds


def test_only_the_gateway_is_reached() -> None:
    """By name: a number would be another container's, too."""
    named = {port["name"] for port in container(manifest("base/deployment.yaml", "Deployment"))["ports"]}
    service = manifest("base/service.yaml", "Service")["spec"]
    assert {port["targetPort"] for port in service["ports"]} == named == {"http", "grpc"}
    assert service.get("type", "ClusterIP") == "ClusterIP"
    policy = manifest("base/network.yaml", "NetworkPolicy")["spec"]
    assert {port["port"] for rule in policy["ingress"] for port in rule["ports"]} == named
    assert all(rule["from"] for rule in policy["ingress"])
    assert {port["port"] for rule in policy["egress"] for port in rule["ports"]} == {53}
    assert set(policy["policyTypes"]) == {"Ingress", "Egress"}
    ways = documents(KUBERNETES / "base/ingress.yaml")
    backends = [
        path["backend"]["service"] for way in ways for rule in way["spec"]["rules"] for path in rule["http"]["paths"]
    ]
    assert {backend["port"]["name"] for backend in backends} == {port["name"] for port in service["ports"]}
    assert {backend["name"] for backend in backends} == {"newsdesk"}
    for way in ways:
        (tls,) = way["spec"]["tls"]
        assert [rule["host"] for rule in way["spec"]["rules"]] == tls["hosts"]
        assert tls["secretName"] in {document["metadata"]["name"] for document in documents(SECRETS)}


SECRETS = KUBERNETES / "secrets.example.yaml"


def selectors(document: Document) -> Iterator[Document]:
    spec = document["spec"]
    yield from (spec[name] for name in ("selector", "podSelector") if name in spec)


def test_everything_is_about_the_same_pods() -> None:
    labels = manifest("base/deployment.yaml", "Deployment")["spec"]["template"]["metadata"]["labels"]
    count = 0
    for path in sorted((KUBERNETES / "base").glob("*.yaml")):
        for document in documents(path):
            for selector in selectors(document) if "spec" in document else ():
                assert selector.get("matchLabels", selector) == labels, path
                count += 1
    assert count == 5
    for path in (KUBERNETES / "base/autoscaler.yaml", KUBERNETES / "overlays/gpu/autoscaler.yaml"):
        (scaler,) = documents(path)
        assert scaler["spec"]["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "newsdesk"}


@pytest.mark.parametrize("path", ["base/autoscaler.yaml", "overlays/gpu/autoscaler.yaml"])
def test_the_autoscaler_reads_metrics_that_the_gateway_has(path: str) -> None:
    """By the names that prometheus-adapter gives them, and with the labels that its rules go by."""
    telemetry = Telemetry()
    telemetry.request("/v1/classify", 200, 0.01, True, "ag_news")
    telemetry.queued.labels("ag_news").set(1)
    exported = set(re.findall(r"^(\w+)\{", telemetry.exposition().decode(), re.MULTILINE))
    (adapter,) = documents(KUBERNETES / "prometheus-adapter.yaml")
    adapted = {}
    for rule in adapter["rules"]:
        series = rule["seriesQuery"].partition("{")[0]
        assert series in exported
        adapted[rule.get("name", {}).get("as", series)] = series
    (scaler,) = documents(KUBERNETES / path)
    assert {metric["pods"]["metric"]["name"] for metric in scaler["spec"]["metrics"]} == adapted.keys()
    monitor = manifest("base/monitor.yaml", "ServiceMonitor")["spec"]["endpoints"]
    assert [(endpoint["port"], endpoint["path"]) for endpoint in monitor] == [("http", "/metrics")]
    assert monitor[0]["authorization"]["credentials"]["name"] in {d["metadata"]["name"] for d in documents(SECRETS)}
