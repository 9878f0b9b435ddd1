"""A Triton model repository: versions that are whole or not there, also when the publisher is killed at any step."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import run
from deploy.triton import checked_sources, publish
from deploy.triton_config import ServingOptions
from spec.errors import PlanError, UsageError
from tests.full_disk import size_limit
from tests.own_logging import own_logging  # noqa: F401
from tests.small_models import write_small
from tests.triton_repository import made_plan, publish_plans, valid_models

pytest.importorskip("tritonclient.grpc.model_config_pb2", reason="tritonclient holds Triton's schema")

ROOT = Path(__file__).resolve().parents[1]


def names_in(directory: Path):
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


def test_the_first_plan_makes_a_model(tmp_path):
    repository = tmp_path / "deep" / "repository"
    published = publish_plans(repository, made_plan(tmp_path / "a"))
    assert published == (1, True, True, ())
    assert names_in(repository) == ["m", "m/1", "m/1/model.plan", "m/1/model.plan.json", "m/config.pbtxt"]
    assert (repository / "m/1/model.plan").read_bytes() == b"plan"
    assert valid_models(repository) == [repository / "m"] and names_in(tmp_path / "deep")[0] == "repository"
    for path in (repository / "m", repository / "m/1", repository / "m/1/model.plan"):
        assert path.stat().st_mode & 0o044, f"{path} cannot be read by the user that Triton runs as"


def test_another_plan_is_the_next_version_and_touches_nothing_else(tmp_path):
    repository = tmp_path / "repository"
    publish_plans(repository, made_plan(tmp_path / "a"))
    before = (repository / "m/config.pbtxt").stat()
    assert publish_plans(repository, made_plan(tmp_path / "b", b"better")) == (2, True, False, ())
    after = (repository / "m/config.pbtxt").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert (repository / "m/1/model.plan").read_bytes() == b"plan"
    assert (repository / "m/2/model.plan").read_bytes() == b"better"
    assert names_in(tmp_path)[-1] == "repository/m/config.pbtxt"


def test_a_command_given_twice_adds_nothing(tmp_path):
    repository, plan = tmp_path / "repository", made_plan(tmp_path / "a")
    publish_plans(repository, plan)
    assert publish_plans(repository, plan) == (1, False, False, ())
    assert publish_plans(repository, plan, instances=2) == (1, False, True, ())
    assert "count: 2" in (repository / "m/config.pbtxt").read_text()


def test_the_original_may_change_later(tmp_path):
    repository, plan = tmp_path / "repository", made_plan(tmp_path / "a")
    publish_plans(repository, plan)
    with plan.open("r+b") as stream:
        stream.write(b"XXXX")
    assert (repository / "m/1/model.plan").read_bytes() == b"plan"
    valid_models(repository)


def test_versions_follow_tritons_rule_of_names(tmp_path):
    repository = tmp_path / "repository"
    publish_plans(repository, made_plan(tmp_path / "a"))
    for name in ("0", "007", "3.old", "x", "²", "٣"):
        (repository / "m" / name).mkdir()
    os.rename(repository / "m/1", repository / "m/11")
    assert publish_plans(repository, made_plan(tmp_path / "b", b"new")).version == 12


def test_keep_removes_the_oldest(tmp_path):
    repository = tmp_path / "repository"
    for count in range(4):
        publish_plans(repository, made_plan(tmp_path / "a", b"%d" % count))
    assert publish_plans(repository, made_plan(tmp_path / "a", b"new"), keep=2) == (5, True, False, (1, 2, 3))
    assert [path.name for path in sorted((repository / "m").iterdir())] == ["4", "5", "config.pbtxt"]
    with pytest.raises(UsageError, match="--keep 1: 2 versions are to be served"):
        publish_plans(repository, made_plan(tmp_path / "a"), served=2, keep=1)


def test_labels_are_beside_the_config(tmp_path):
    (tmp_path / "names").write_text("a\nb\nc\nd\ne\n")
    publish_plans(tmp_path / "r", made_plan(tmp_path / "a"), labels=tmp_path / "names")
    assert (tmp_path / "r/m/labels.txt").read_text() == "a\nb\nc\nd\ne\n"
    valid_models(tmp_path / "r")


def test_plans_of_several_gpus_are_one_version(tmp_path):
    plans = [made_plan(tmp_path / "a", b"ampere", "8.6"), made_plan(tmp_path / "h", b"hopper", "9.0")]
    publish_plans(tmp_path / "r", *plans)
    assert (tmp_path / "r/m/1/model_sm86.plan").read_bytes() == b"ampere"
    assert (tmp_path / "r/m/1/model_sm90.plan").read_bytes() == b"hopper"
    assert publish_plans(tmp_path / "r", *plans).is_new is False
    valid_models(tmp_path / "r")
    with pytest.raises(UsageError, match="plans for compute capabilities: 8.6, 9.0 and any; serve it under another"):
        publish_plans(tmp_path / "r", plans[0])


def test_other_inputs_are_refused_by_name(tmp_path):
    repository = tmp_path / "repository"
    publish_plans(repository, made_plan(tmp_path / "a"))
    image = {"name": "image", "shape": [1, 8, 9, 3], "dtype": "float32", "layout": "NHWC"}
    before = names_in(tmp_path / "repository")
    message = "differ in what clients see: input 'image': TYPE_UINT8 [1, 8, 9, 3] and TYPE_FP32 [1, 8, 9, 3]; serve it"
    with pytest.raises(UsageError, match=re.escape(message)):
        publish_plans(repository, made_plan(tmp_path / "b", b"new", inputs=[image]))
    assert names_in(repository) == before


def test_a_plan_for_another_dla_is_refused(tmp_path):
    """One config.pbtxt says for all versions which DLA they run on."""
    plans = [made_plan(tmp_path / word, word.encode(), options={"dla_core": int(word)}) for word in ("1", "01", "0")]
    assert [publish_plans(tmp_path / "r", plan).version for plan in plans[:2]] == [1, 2]
    for plan, found in ((plans[2], "0"), (made_plan(tmp_path / "d", b"d"), "none")):
        with pytest.raises(UsageError, match=f"version 2 and the new plan differ in .*: DLA core: 1 and {found};"):
            publish_plans(tmp_path / "r", plan)
    text = (tmp_path / "r/m/config.pbtxt").read_text()
    assert text.count("secondary_devices {\n    kind: KIND_NVDLA\n    device_id: 1\n") == 1


def test_a_model_of_somebody_else_is_left_alone(tmp_path):
    (tmp_path / "r/m/1").mkdir(parents=True)
    with pytest.raises(UsageError, match="m/1: holds no plan of `run.py triton`; choose another --name"):
        publish_plans(tmp_path / "r", made_plan(tmp_path / "a"))
    (tmp_path / "r/m/1").rmdir()
    with pytest.raises(UsageError, match="r/m: is there and holds no version"):
        publish_plans(tmp_path / "r", made_plan(tmp_path / "a"))


def test_a_version_of_an_older_program_is_left_alone(tmp_path):
    publish_plans(tmp_path / "r", made_plan(tmp_path / "a"))
    path = tmp_path / "r/m/1/model.plan.json"
    manifest = json.loads(path.read_text())
    del manifest["inputs"]
    path.write_text(json.dumps(manifest))
    with pytest.raises(PlanError, match="1/model.plan.json: is of an older program and names no inputs; choose"):
        publish_plans(tmp_path / "r", made_plan(tmp_path / "b", b"new"))


def test_only_its_own_leftovers_are_cleared_away(tmp_path):
    """A repository's name is no pattern."""
    for name in (".r*.incoming-x", ".rest.incoming-x"):
        (tmp_path / name).mkdir()
    publish_plans(tmp_path / "r*", made_plan(tmp_path / "a"))
    assert [path.name for path in tmp_path.glob(".*")] == [".rest.incoming-x"]


def test_a_damaged_plan_is_refused_before_and_while_it_is_copied(tmp_path):
    plan = made_plan(tmp_path / "a")
    sources = checked_sources([plan])
    plan.write_bytes(b"clan")
    with pytest.raises(PlanError, match="sha256 begins with"):
        checked_sources([plan])
    with pytest.raises(PlanError, match="changed while it was copied"):
        publish(tmp_path / "r", "m", sources, ServingOptions())
    assert names_in(tmp_path / "r") == [] and not list(tmp_path.glob(".*"))


def test_a_full_disk_leaves_the_repository_as_it_was(tmp_path):
    repository = tmp_path / "repository"
    publish_plans(repository, made_plan(tmp_path / "a"))
    plan = made_plan(tmp_path / "b", bytes(200_000))
    with size_limit(100_000), pytest.raises(UsageError, match="File too large; the repository serves what it served"):
        publish_plans(repository, plan)
    assert names_in(repository / "m/1") == ["model.plan", "model.plan.json"] and not (repository / "m/2").exists()
    assert not list(tmp_path.glob(".*"))


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.triton_repository import publish_plans

def killed_at(step):
    \"\"\"Makes the process die before call number `step` of those that change a disk.\"\"\"
    left = [step]
    def wrap(name):
        real = getattr(os, name)
        def call(*arguments, **keys):
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left[0] -= 1
            return real(*arguments, **keys)
        setattr(os, name, call)
    for name in ("mkdir", "rename", "replace", "fsync", "copy_file_range", "write", "chmod", "rmdir", "unlink"):
        wrap(name)

repository, step, plan, labels = Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4])
killed_at(step)
publish_plans(repository, plan, instances=2, labels=labels, keep=1)
"""


@pytest.mark.parametrize("versions", [0, 2], ids=["a new model", "a new version, old ones given up"])
def test_a_kill_at_any_step_leaves_a_repository_that_triton_loads(tmp_path, versions):
    """One process dies before the first change of the disk, the next before the second, until one comes through."""
    (tmp_path / "names").write_text("a\nb\nc\nd\ne\n")
    plan = made_plan(tmp_path / "new", b"new plan")
    for step in range(200):
        root = tmp_path / str(step)
        repository = root / "repository"
        repository.mkdir(parents=True)
        for count in range(versions):
            publish_plans(repository, made_plan(tmp_path / "old", b"old %d" % count))
        if forked_publisher(repository, step, plan, tmp_path / "names") == 0:
            break
        assert len(valid_models(repository)) in ({1} if versions else {0, 1})
        publish_plans(repository, plan, instances=2, labels=tmp_path / "names", keep=1)
        valid_models(repository)
        assert [path.name for path in root.iterdir()] == ["repository"], "what a killed process left is cleared away"
    assert 15 < step < 200 and names_in(repository / "m")[-1] == "labels.txt"


def forked_publisher(repository: Path, step: int, plan: Path, labels: Path) -> int:
    """The exit status of KILLED in a fork, which costs no second import of everything."""
    child = os.fork()
    if child == 0:
        sys.argv = ["killed", str(repository), str(step), str(plan), str(labels)]
        try:
            exec(KILLED, {})
        finally:
            os._exit(1 if sys.exc_info()[0] else 0)
    status = os.waitpid(child, 0)[1]
    assert status == 0 or os.WTERMSIG(status) == signal.SIGKILL
    return status


def test_two_publishers_wait_for_each_other(tmp_path):
    plans = [made_plan(tmp_path / str(count), b"plan %d" % count) for count in range(3)]
    code = "import sys; from pathlib import Path; from tests.triton_repository import publish_plans\n"
    code += "publish_plans(Path(sys.argv[1]), Path(sys.argv[2]))"
    command = [sys.executable, "-c", code, str(tmp_path / "r")]
    running = [subprocess.Popen([*command, str(plan)], cwd=ROOT) for plan in plans]
    assert [process.wait() for process in running] == [0] * 3
    contents = {(tmp_path / f"r/m/{version}/model.plan").read_bytes() for version in (1, 2, 3)}
    assert contents == {b"plan %d" % count for count in range(3)}
    valid_models(tmp_path / "r")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The directory of the small model and its plan, built once."""
    directory = tmp_path_factory.mktemp("built")
    write_small(directory)
    command = ["-q", "--config", str(directory / "small.yaml"), "--output", str(directory / "out")]
    assert run.main([*command, "--set", "batch={min: 1, opt: 2, max: 8}"]) == 0
    return directory


@pytest.fixture
def verb(built, tmp_path, capsys):
    """`verb("--keep", "2")` publishes the small model to tmp_path/repository; (exit code, output, errors)."""

    def go(*options: str, batch: str = "batch={min: 1, opt: 2, max: 8}"):
        plan = ["--config", str(built / "small.yaml"), "--set", batch, "--plan", str(built / "out/small.plan")]
        code = run.main(["triton", *plan, "--repository", str(tmp_path / "repository"), *options])
        return (code, *capsys.readouterr())

    return go


def test_the_verb_publishes_and_says_how_to_serve(verb, built, tmp_path):
    code, out, _ = verb("--rehearse", "--queue-delay", "100", "--instances", "2", "--gpus", "0,1")
    assert code == 0 and "version 1; config.pbtxt written" in out
    rtx = json.loads((built / "out/small.plan.json").read_text())["tensorrt"]["name"] == "tensorrt_rtx"
    assert ("this was a rehearsal" if rtx else f"tritonserver --model-repository={tmp_path}/repository") in out
    text = (tmp_path / "repository/small/config.pbtxt").read_text()
    assert "max_queue_delay_microseconds: 100" in text and "gpus: [0, 1]" in text and "max_batch_size: 8" in text
    assert (tmp_path / "repository/small/1/model.plan").read_bytes() == (built / "out/small.plan").read_bytes()
    assert len(valid_models(tmp_path / "repository")) == 1
    assert "version 1 holds these plans already; config.pbtxt unchanged" in verb(
        "--rehearse", "--queue-delay", "100", "--instances", "2", "--gpus", "0,1"
    )[1]


def test_a_plan_of_tensorrt_ends_with_the_way_to_serve_it(tmp_path, capsys):
    """Any bytes serve as the plan: nothing here loads it."""
    write_small(tmp_path)
    sides = {
        "inputs": [{"name": "image", "shape": [1, 2, 7, 9], "dtype": "float32", "layout": "NCHW"}],
        "outputs": [{"name": "fc", "shape": [1, 4], "dtype": "float32", "layout": None}],
    }
    words = ["triton", "--config", str(tmp_path / "small.yaml"), "--repository", str(tmp_path / "r"), "--plan"]
    assert run.main([*words, str(made_plan(tmp_path / "a", **sides))]) == 0
    out = capsys.readouterr().out
    assert f"tritonserver --model-repository={tmp_path}/r\n" in out and "TensorRT 8.5.3.1 exactly" in out
    compatible = made_plan(tmp_path / "b", b"new", options={"version_compatible": True}, **sides)
    assert run.main([*words, str(compatible)]) == 0
    out = capsys.readouterr().out
    assert "/r --backend-config=tensorrt,version-compatible=true" in out and "TensorRT 8.5.3.1 or a newer one" in out


def test_the_verb_refuses_what_would_not_load(verb, built, tmp_path):
    manifest = json.loads((built / "out/small.plan.json").read_text())
    if manifest["tensorrt"]["name"] == "tensorrt_rtx":
        code, _, err = verb()
        assert code == 2 and "is a TensorRT-RTX plan; Triton's TensorRT backend loads plans of TensorRT only" in err
    code, _, err = verb("--rehearse", batch="batch={min: 1, opt: 2, max: 4}")
    both = "batch of the plan: min 1, opt 2, max 8; of the config: min 1, opt 2, max 4"
    assert code == 2 and f"{both}; repeat the --set" in err
    assert verb("--rehearse", "--name", "a..b")[0] == 2
    assert not (tmp_path / "repository").exists()


@pytest.mark.parametrize(
    "option, word",
    [("--queue-delay", "-5"), ("--gpus", "0,x"), ("--gpus", "-1"), ("--keep", "0"), ("--instances", "2.5")],
)
def test_numbers_that_tritons_schema_refuses_are_refused_here(verb, capsys, option, word):
    with pytest.raises(SystemExit):
        verb("--rehearse", option, word)
    assert f"argument {option}: wanted a whole number from " in capsys.readouterr().err
