"""What goes to Kubernetes against the resource definitions of Dask's operator, and its commands run as processes."""

import copy
import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import dask
import distributed
import pytest
import yaml
from distributed import Status

from engine.workers import launch
from jobs import files
from tests import crash
from tests.oracles.vectors import save_bert
from tests.small_study import SmallStudy, call
from tests.test_tls import certified

operator = pytest.importorskip("dask_kubernetes.operator", reason="pip install dask-kubernetes jsonschema")
jsonschema = pytest.importorskip("jsonschema", reason="pip install dask-kubernetes jsonschema")
ROOT = Path(__file__).parents[1]
MANIFESTS = ROOT / "deploy" / "kubernetes"


def closed(schema: Any) -> Any:
    """A schema in which an object has no keys but those named: the server drops others, and kubectl refuses them."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    found = {key: closed(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
        found.setdefault("additionalProperties", False)
    return found


@cache
def validator(kind: str) -> Any:
    """The definition of a kind of resource that the operator's chart installs."""
    chart = Path(operator.__file__).parent / "deployment" / "helm" / "dask-kubernetes-operator" / "crds"
    definition = yaml.load((chart / f"{kind.lower()}.yaml").read_text(), yaml.CSafeLoader)
    return jsonschema.Draft7Validator(closed(definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]))


def problems(manifest: dict[str, Any]) -> list[str]:
    """What the definitions have against a resource."""
    assert manifest["apiVersion"] == "kubernetes.dask.org/v1"
    given = {key: value for key, value in manifest.items() if key not in ("apiVersion", "kind", "metadata")}
    return [f"{error.json_path}: {error.message}" for error in validator(manifest["kind"]).iter_errors(given)]


def load(name: str) -> Any:
    return yaml.safe_load((MANIFESTS / f"{name}.yaml").read_text())


def with_tls() -> tuple[dict[str, Any], dict[str, str]]:
    """The cluster as kustomize makes it, and the environment of its pods."""
    jsonpatch = pytest.importorskip("jsonpatch", reason="pip install jsonpatch")
    made = load("kustomization")
    [patch], [settings] = made["patches"], made["configMapGenerator"]
    assert patch["target"] == {"kind": load("cluster")["kind"], "name": load("cluster")["metadata"]["name"]}
    cluster = jsonpatch.apply_patch(load("cluster"), yaml.safe_load(patch["patch"]))
    for pod in pods(cluster).values():
        [container] = pod["containers"]
        assert container["envFrom"] == [{"configMapRef": {"name": settings["name"]}}]
    return cluster, dict(line.split("=") for line in settings["literals"])


def pods(resource: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Specifications of the pods of a resource, by what they are."""
    cluster = resource if resource["kind"] == "DaskCluster" else resource["spec"]["cluster"]
    found = {name: cluster["spec"][name]["spec"] for name in ("scheduler", "worker")}
    return found if resource["kind"] == "DaskCluster" else found | {"runner": resource["spec"]["job"]["spec"]}


@pytest.mark.parametrize("name", ["cluster", "job"])
def test_manifest__is_what_the_operator_takes(name: str) -> None:
    manifest = load(name)
    assert problems(manifest) == []
    for at, wrong in (("containers", "nothing"), ("imagePullSecret", "x"), ("securityContext", {"runAsUser": "me"})):
        spoilt = copy.deepcopy(manifest)
        pods(spoilt)["worker"][at] = wrong
        assert [problem for problem in problems(spoilt) if at in problem]


@pytest.mark.parametrize("name", ["cluster", "job"])
def test_manifest__its_parts_fit_together(name: str) -> None:
    manifest = load(name)
    cluster = manifest["metadata"]["name"]
    spec = (manifest if name == "cluster" else manifest["spec"]["cluster"])["spec"]
    selector = {"dask.org/cluster-name": cluster, "dask.org/component": "scheduler"}
    assert spec["scheduler"]["service"]["selector"] == selector
    claim = load("volume")["metadata"]["name"]
    for what, pod in pods(manifest).items():
        volumes = {volume["name"]: volume["persistentVolumeClaim"]["claimName"] for volume in pod.get("volumes", [])}
        for container in pod["containers"]:
            mounted = {mount["mountPath"]: volumes[mount["name"]] for mount in container.get("volumeMounts", [])}
            assert mounted == ({} if what == "scheduler" else {"/data": claim})
            assert "command" not in container, "the image has no entrypoint: arguments are the command"
    if name == "job":
        runner = pods(manifest)["runner"]
        assert runner["restartPolicy"] == "Never"
        assert runner["initContainers"][0]["args"][-1] == f"tcp://{cluster}-scheduler:8786"
        assert spec == load("cluster")["spec"]


def test_manifest__of_tls_is_what_the_operator_takes() -> None:
    cluster, environment = with_tls()
    assert problems(cluster) == []
    for pod in pods(cluster).values():
        [mount] = [mount for mount in pod["containers"][0]["volumeMounts"] if mount["mountPath"] == "/tls"]
        assert [one["secret"] for one in pod["volumes"] if one["name"] == mount["name"]] == [
            {"secretName": "colign-tls"}
        ]
    with dask.config.set(dask.config.merge(dask.config.config, dask.config.collect_env(environment))):
        security = distributed.Security()
    assert security.require_encryption
    for role in ("scheduler", "worker", "client"):
        keys = security.get_tls_config_for_role(role)
        assert (keys["ca_file"], keys["cert"], keys["key"]) == ("/tls/ca.crt", "/tls/tls.crt", "/tls/tls.key")


def test_manifest__volume_is_what_kubernetes_takes() -> None:
    client = pytest.importorskip("kubernetes.client")
    manifest = load("volume")
    api = client.ApiClient()

    read = api.deserialize(json.dumps(manifest), "V1PersistentVolumeClaim", "application/json")
    assert api.sanitize_for_serialization(read) == manifest  # what it does not know would be lost


def test_machine_file__starts_what_the_operator_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[dict[str, Any]] = []

    async def start(self: Any) -> None:
        made.append(
            operator.make_cluster_spec(
                name=self.name, env=self.env, resources=self.resources, worker_command=self.worker_command,
                n_workers=self.n_workers, image=self.image, scheduler_service_type=self.scheduler_service_type,
                idle_timeout=self.idle_timeout or 0, jupyter=self.jupyter,
            )
            if not self._custom_cluster_spec
            else self._custom_cluster_spec
        )  # fmt: skip

    monkeypatch.setattr(operator.KubeCluster, "_start", start)
    monkeypatch.setattr(operator.KubeCluster, "adapt", lambda self, **_: None)
    machine = files.load_machine(str(ROOT / "deploy" / "kubernetes.yaml"))
    started = [launch.start(machine)]
    custom = machine.model_copy(update={"custom_cluster_spec": str(MANIFESTS / "cluster.yaml")})
    started.append(launch.start(custom))
    for cluster in started:
        cluster.status = Status.closed
    assert [problems(one) for one in made] == [[], []]
    limit = made[0]["spec"]["worker"]["spec"]["containers"][0]["args"][5]
    assert int(limit) == machine.memory_bytes / 0.8 == 5 * 2**30, "the pod's limit is that of the worker"
    assert made[1] == load("cluster")
    commands = {pod["containers"][0]["args"][0] for one in made for pod in pods(one).values()}
    assert commands == {"dask", "dask-scheduler"}
    for kind in ("cpu", "gpu"):
        assert "> /opt/colign/bin/dask-scheduler" in (ROOT / "deploy" / f"Containerfile.{kind}").read_text()


@pytest.fixture
def running() -> Iterator[list[subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in reversed(started):
        process.kill()
        process.wait()


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["tcp", "tls"])
def test_job__its_commands_run_as_processes_equal_this_process(
    protocol: str, running: list[subprocess.Popen[bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = SmallStudy(tmp_path / "data", save_bert(tmp_path / "model", positions=64))
    monkeypatch.setattr("jobs.run.write_figures", lambda *_: None)
    assert call(monkeypatch, "run", study.file, "--out", tmp_path / "here") == 0
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    told = os.environ | {"PYTHONPATH": path, "DASK_WORKER_NAME": "colign-worker"}
    address = tmp_path / "scheduler.json"
    ports = {"scheduler": ["--port", "0", "--dashboard-address", "127.0.0.1:0", "--scheduler-file", str(address)]}
    programs = {"dask": "dask", "colign": "jobs.cli", "python": None}

    def start(arguments: list[str], *more: str) -> subprocess.Popen[bytes]:
        program, *rest = arguments
        module = ["-m", programs[program]] if programs[program] else []
        rest = [part.replace("/data", str(study.folder)) for part in rest]
        rest = [part.replace("$(DASK_WORKER_NAME)", told["DASK_WORKER_NAME"]) for part in rest]
        running.append(subprocess.Popen([sys.executable, *module, *rest, *more], env=told))
        return running[-1]

    of = pods(load("job"))
    if protocol == "tls":
        secret = certified(tmp_path / "tls")
        cluster, environment = with_tls()
        of |= pods(cluster)
        names = {"ca.crt": "ca.pem", "tls.crt": "cert.pem", "tls.key": "key.pem"}
        assert {*secret.values()} == {True, *(str(tmp_path / "tls" / name) for name in names.values())}
        for name, value in environment.items():
            told[name] = str(tmp_path / "tls" / names[Path(value).name]) if "/" in value else value
    start(of["scheduler"]["containers"][0]["args"], *ports["scheduler"])
    while not address.exists():
        assert running[0].poll() is None
    found = json.loads(address.read_text())
    assert found["address"].startswith(f"{protocol}://")
    there = f"{protocol}://127.0.0.1:{found['address'].rpartition(':')[2]}"
    told["DASK_SCHEDULER_ADDRESS"] = f"tcp{there[3:]}"  # as the operator tells workers, TLS or not
    health = urllib.request.urlopen(f"http://127.0.0.1:{found['services']['dashboard']}/health")
    assert health.status == 200, "the probes of the pod"
    worker = [
        there if part == "tls://colign-scheduler:8786" else part for part in of["worker"]["containers"][0]["args"]
    ]
    start(worker, "--dashboard-address", "127.0.0.1:0")
    told["DASK_SCHEDULER_ADDRESS"] = there
    waiting = of["runner"]["initContainers"][0]["args"]
    assert start([*waiting[:-1], told["DASK_SCHEDULER_ADDRESS"]]).wait(timeout=300) == 0
    assert start(of["runner"]["containers"][0]["args"], "--out", str(tmp_path / "there")).wait(timeout=300) == 0
    crash.assert_equal(tmp_path / "there", tmp_path / "here")
