"""What lies in deploy/ can be used as it is: commands that the command line accepts, fields that the clusters know, nobody is root."""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from live_builders import ROOT

from medanomaly.cli.parsing import parsed, parser
from medanomaly.errors import ConfigError
from medanomaly.evaluation.shards import Shard, shard_of

DEPLOY = ROOT / "deploy"
MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
SCRIPTS = sorted((DEPLOY / "slurm").glob("*.sbatch"))
DOCKERFILES = [DEPLOY / "Dockerfile", DEPLOY / "Dockerfile.cuda"]

POD_SECURITY = {"runAsNonRoot", "runAsUser", "runAsGroup", "fsGroup", "fsGroupChangePolicy", "seccompProfile"}
CONTAINER_SECURITY = {"allowPrivilegeEscalation", "readOnlyRootFilesystem", "capabilities"}
CONTAINER = {"name", "image", "command", "args", "env", "resources", "securityContext", "volumeMounts"}
POD = {
    "restartPolicy",
    "automountServiceAccountToken",
    "terminationGracePeriodSeconds",
    "securityContext",
    "containers",
    "volumes",
}
FIELDS = {
    "Job": {"completionMode", "completions", "parallelism", "backoffLimitPerIndex", "ttlSecondsAfterFinished", "podFailurePolicy"}
    | {"template"},
    "NetworkPolicy": {"podSelector", "policyTypes", "ingress", "egress"},
    "TrainJob": {"runtimeRef", "trainer"},
    "TrainingRuntime": {"mlPolicy", "template"},
    "PyTorchJob": {"elasticPolicy", "runPolicy", "pytorchReplicaSpecs"},
}
"""Fields of ``spec`` by kind, of those we use: Kubernetes API reference (batch/v1, networking.k8s.io/v1), Kubeflow Trainer API
(trainer.kubeflow.org/v1alpha1), Kubeflow Training Operator API (kubeflow.org/v1)."""
VERSIONS = {
    "Job": "batch/v1",
    "NetworkPolicy": "networking.k8s.io/v1",
    "TrainJob": "trainer.kubeflow.org/v1alpha1",
    "TrainingRuntime": "trainer.kubeflow.org/v1alpha1",
    "PyTorchJob": "kubeflow.org/v1",
}


def documents(path: Path) -> dict[str, dict[str, Any]]:
    """kind -> document."""
    return {made["kind"]: made for made in yaml.safe_load_all(path.read_text())}


def pods_in(content: Any) -> Iterator[dict[str, Any]]:
    """Every pod template below a document."""
    if isinstance(content, dict):
        if "containers" in content.get("spec", {}) and "metadata" in content:
            yield content
        for value in content.values():
            yield from pods_in(value)
    elif isinstance(content, list):
        for value in content:
            yield from pods_in(value)


def commands_in(content: Any) -> Iterator[list[str]]:
    """Every command with its arguments below a document."""
    if isinstance(content, dict):
        if "command" in content:
            yield [*content["command"], *content.get("args", [])]
        for value in content.values():
            yield from commands_in(value)
    elif isinstance(content, list):
        for value in content:
            yield from commands_in(value)


def medanomaly_words(words: Sequence[str]) -> list[str]:
    """What follows ``medanomaly``, started by itself, by docker or by torchrun."""
    places = [place for place, word in enumerate(words) if re.fullmatch(r"medanomaly(:[a-z]+)?", word)]
    return list(words[places[-1] + 1 :])


class Understood(Exception):
    """Ends a command that has been read."""


def accept(words: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Let the command's own parser read the words, and call nothing; returns what it understood."""
    module = importlib.import_module(f"medanomaly.cli.{words[0].replace('-', '_')}")
    found: dict[str, Any] = {}

    def only_parse(function: Any, prog: str, usage: str, arguments: Sequence[str]) -> int:
        made = parser(prog, "", usage)
        made.add_function_arguments(function, as_positional=True, fail_untyped=True)
        found.update(parsed(made, arguments).as_dict())
        return 0

    def only_read(made: Any, arguments: Sequence[str]) -> Any:
        found.update(parsed(made, arguments).as_dict())
        raise Understood

    # Nothing may be done: the folders these commands name are those of a cluster.
    name, instead = ("parsed", only_read) if words[0] == "train" else ("run_function", only_parse)
    monkeypatch.setattr(module, name, instead)
    with contextlib.suppress(Understood):
        assert module.main(words[1:]) == 0
    assert found
    return found


def shell_commands(text: str) -> list[list[str]]:
    """Lines of a script or of a page that start medanomaly or torchrun, variables replaced by a word."""
    joined = re.sub(r"\\\n#?\s*", " ", text)
    lines = [line.strip().removeprefix("# ").strip() for line in joined.splitlines()]
    started = [
        line
        for line in lines
        if re.match(
            r"([A-Z_]+=\S+ )*(srun )?(medanomaly [a-z-]+ [^ ]+ [^ ]*[/.$]|medanomaly merge|torchrun --|docker run --)", line
        )
    ]
    plain = [re.sub(r' "\$@"| \|\| code=\$\?| #.*$| &$', "", line) for line in started]
    plain = [re.sub(r"\$\{NUM_SHARDS:-(\d+)\}", r"\1", line) for line in plain]
    plain = [re.sub(r"\$\{?PRESET\}?", "gray64-cfg", line) for line in plain]
    return [shlex.split(re.sub(r"\$\{?[A-Za-z_]+(:-\w+)?\}?", "1", line)) for line in plain]


PAGE = ROOT / "docs" / "scale.md"
COMMANDS = [(path.name, words) for path in MANIFESTS for made in documents(path).values() for words in commands_in(made)] + [
    (path.name, words) for path in [*SCRIPTS, *DOCKERFILES, PAGE] for words in shell_commands(path.read_text())
]


@pytest.mark.parametrize(("name", "words"), COMMANDS, ids=[f"{name}-{number}" for number, (name, _) in enumerate(COMMANDS)])
def test_every_command_line_is_one_that_medanomaly_accepts(name: str, words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    understood = accept(medanomaly_words(words), monkeypatch)
    if understood.get("shard") not in (None, "auto"):
        assert isinstance(shard_of(understood["shard"], {"JOB_COMPLETION_INDEX": "0"}), Shard)


def test_there_are_commands_of_each_kind_and_a_wrong_option_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {name for name, _ in COMMANDS}
    assert files == {path.name for path in [*MANIFESTS, *SCRIPTS, *DOCKERFILES, PAGE]}
    with pytest.raises(ConfigError, match="E_USAGE"):
        accept(["localize", "a", "b", "c", "--shards", "1/2"], monkeypatch)


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_kinds_versions_and_fields_are_those_of_the_published_interfaces(path: Path) -> None:
    for kind, made in documents(path).items():
        assert made["apiVersion"] == VERSIONS[kind]
        assert made.keys() <= {"apiVersion", "kind", "metadata", "spec"}
        assert re.fullmatch(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", made["metadata"]["name"])
        assert made["spec"].keys() <= FIELDS[kind]
        for pod in pods_in(made):
            assert pod["spec"].keys() <= POD
            assert pod["spec"]["securityContext"].keys() <= POD_SECURITY
            volumes = {volume["name"] for volume in pod["spec"]["volumes"]}
            for container in pod["spec"]["containers"]:
                assert container.keys() <= CONTAINER
                assert container["securityContext"].keys() <= CONTAINER_SECURITY
                assert {mount["name"] for mount in container["volumeMounts"]} == volumes


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_no_pod_is_root_or_may_become_it_or_talks_to_the_cluster(path: Path) -> None:
    pods = [pod["spec"] for made in documents(path).values() for pod in pods_in(made)]
    assert pods
    for pod in pods:
        assert (pod["securityContext"]["runAsNonRoot"], pod["securityContext"]["runAsUser"]) == (True, 10001)
        assert pod["automountServiceAccountToken"] is False
        for container in pod["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_the_indexed_job_has_as_many_indices_as_shards_and_its_policy_covers_the_pods_container() -> None:
    made = documents(DEPLOY / "kubernetes" / "localize-job.yaml")
    spec = made["Job"]["spec"]
    assert spec["completionMode"] == "Indexed"
    words = next(commands_in(spec))
    assert words[words.index("--shard") + 1] == f"auto/{spec['completions']}"
    assert spec["template"]["spec"]["restartPolicy"] == "Never"  # what a pod failure policy needs
    name = spec["template"]["spec"]["containers"][0]["name"]
    rules = [rule for rule in spec["podFailurePolicy"]["rules"] if "onExitCodes" in rule]
    assert {rule["onExitCodes"]["containerName"] for rule in rules} == {name}
    actions = {code: rule["action"] for rule in rules for code in rule["onExitCodes"]["values"]}
    assert actions == {75: "Ignore", 3: "FailIndex", 4: "FailIndex", 2: "FailJob", 5: "FailJob"}
    labels = made["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"]
    assert labels.items() <= spec["template"]["metadata"]["labels"].items()
    assert made["NetworkPolicy"]["spec"].keys() == {"podSelector", "policyTypes"}  # no rule: nothing is allowed


def test_the_batch_of_a_training_can_be_split_over_its_processes() -> None:
    made = documents(DEPLOY / "kubernetes" / "train-trainjob.yaml")
    trainer = made["TrainJob"]["spec"]["trainer"]
    words = next(commands_in(trainer))
    assert int(words[words.index("--training.batch-size") + 1]) % (trainer["numNodes"] * trainer["numProcPerNode"]) == 0
    assert int(trainer["resourcesPerNode"]["limits"]["nvidia.com/gpu"]) == trainer["numProcPerNode"]
    runtime = made["TrainJob"]["spec"]["runtimeRef"]
    assert (runtime["kind"], runtime["name"]) == ("TrainingRuntime", made["TrainingRuntime"]["metadata"]["name"])
    job = made["TrainingRuntime"]["spec"]["template"]["spec"]["replicatedJobs"][0]["template"]
    # What the controller looks for to put command and image in place.
    assert job["metadata"]["labels"] == {"trainer.kubeflow.org/trainjob-ancestor-step": "trainer"}
    assert job["spec"]["template"]["spec"]["containers"][0]["name"] == "node"


def ended(script: str, folder: Path, code: int, environment: dict[str, str], *arguments: str) -> tuple[int, list[str]]:
    """Exit code of a script whose cluster is made of stubs, and the lines of what it called; the step it runs returns ``code``."""
    bin_folder = folder / "bin"
    bin_folder.mkdir(parents=True)
    calls = folder / "calls"
    for name, ending in (("srun", f"exit {code}"), ("scontrol", 'test "$1" != show || echo node-1')):
        (bin_folder / name).write_text(f'#!/bin/bash\necho "{name} $*" >> {shlex.quote(str(calls))}\n{ending}\n')
        (bin_folder / name).chmod(0o755)
    there = {"PATH": f"{bin_folder}:{os.environ['PATH']}", **environment}
    bash = shutil.which("bash") or "bash"
    ran = subprocess.run(
        [bash, str(DEPLOY / "slurm" / script), *arguments], env=there, cwd=folder, capture_output=True, timeout=60
    )
    return ran.returncode, calls.read_text().splitlines() if calls.exists() else []


ARRAY = {"MODEL": "m", "SOURCE": "s v", "OUT": "o", "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "3"}


@pytest.mark.parametrize(("code", "again"), [(0, []), (3, []), (75, ["scontrol requeue 7_3"])])
def test_an_array_task_that_was_stopped_is_queued_again_and_no_other(tmp_path: Path, code: int, again: list[str]) -> None:
    returned, calls = ended("localize.sbatch", tmp_path, code, ARRAY)
    assert returned == code
    assert calls == ["srun medanomaly localize m s v o --shard auto/8 --quiet true", *again]


def test_the_array_has_as_many_tasks_as_the_script_has_shards() -> None:
    text = (DEPLOY / "slurm" / "localize.sbatch").read_text()
    last = re.search(r"^#SBATCH --array=0-(\d+)$", text, re.MULTILINE)
    shards = re.search(r"auto/\$\{NUM_SHARDS:-(\d+)\}", text)
    assert last is not None
    assert shards is not None
    assert int(last[1]) + 1 == int(shards[1])


@pytest.mark.parametrize(
    ("code", "status", "returned", "again"), [(0, "done", 0, False), (1, "running", 1, False), (1, "preempted", 75, True)]
)
def test_a_training_that_was_stopped_is_queued_again_though_torchrun_returns_1(
    tmp_path: Path, code: int, status: str, returned: int, again: bool
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "status.json").write_text(f'{{\n  "status": "{status}",\n  "step": 3\n}}\n')
    environment = {"PRESET": "gray64-cfg", "DATA": "d.csv", "OUT": "run", "SLURM_JOB_ID": "9", "SLURM_NNODES": "2"}
    environment |= {"SLURM_JOB_NODELIST": "node-[1-2]", "SLURM_GPUS_ON_NODE": "4"}
    found, calls = ended("train.sbatch", tmp_path, code, environment, "--training.batch-size", "64")
    assert found == returned
    launcher = (
        "torchrun --nnodes 2 --nproc-per-node 4 --max-restarts 3 --rdzv-backend c10d --rdzv-id 9 --rdzv-endpoint node-1:29500"
    )
    command = "-m medanomaly train gray64-cfg --data d.csv --out run --training.batch-size 64"
    expected = ["scontrol show hostnames node-[1-2]", f"srun {launcher} {command}"]
    assert calls == [*expected, *(["scontrol requeue 9"] if again else [])]


def test_a_script_without_its_variables_says_which_one_is_missing(tmp_path: Path) -> None:
    returned, calls = ended("localize.sbatch", tmp_path, 0, {name: value for name, value in ARRAY.items() if name != "OUT"})
    assert returned != 0
    assert calls == []


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_an_image_copies_what_exists_and_runs_as_nobody_special(path: Path) -> None:
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    copied = [source for line in lines if line.startswith("COPY ") for source in line.split()[1:-1]]
    assert {"pyproject.toml", "README.md", "LICENSE", "medanomaly", "baselines", "deblur"} <= set(copied)
    assert all((ROOT / source).exists() for source in copied)
    assert [line for line in lines if line.startswith("USER ")][-1] == "USER 10001"
    assert lines.index("USER 10001") < lines.index('ENTRYPOINT ["medanomaly"]')
    index = next(line for line in lines if line.startswith("ARG TORCH_INDEX"))
    assert ("=" in index) == (path.name == "Dockerfile")
