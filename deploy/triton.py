"""A plan becomes the newest version of a model in a Triton model repository, all of it or nothing.

    .REPOSITORY.incoming-*/   written and synced here, then   REPOSITORY/MODEL/config.pbtxt
       VERSION/model.plan     renamed: one step, so that                 VERSION/model.plan
               model.plan.json   Triton never sees a half                        model.plan.json

The staging folder lies beside the repository, not in it: Triton takes every folder of a repository for a model and does
not start when one cannot be loaded, and in poll mode it loads a model anew when a file beside its versions appears.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import glob
import os
import re
import shlex
import shutil
import tempfile
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Sequence, Tuple

from deploy.pbtxt import write_text
from deploy.triton_config import LABELS, Contract, ServingOptions, contract, differences, model_config, plan_names
from engine.atomic_file import json_bytes, write_whole
from engine.manifest import sha256_of_file
from engine.plan_check import read_manifest
from spec.errors import PlanError, UsageError

HEAD = "# Written by `run.py triton`, whose options set it: edits by hand are lost with the next plan.\n"
CONFIG = "config.pbtxt"


class Published(NamedTuple):
    """What `publish` did.

    Attributes:
        version: the version that now holds the plans.
        is_new: False where it held them already.
        config_changed: whether config.pbtxt is another than before.
        removed: versions that were given up.
    """

    version: int
    is_new: bool
    config_changed: bool
    removed: Tuple[int, ...]


class Source(NamedTuple):
    """A plan that was checked, its manifest, and what it is called in a version's folder."""

    path: Path
    manifest: Dict[str, Any]
    name: str


def checked_sources(plans: Sequence[Path]) -> List[Source]:
    """Plans to publish together; raises UsageError or PlanError where one is damaged or has no manifest."""
    manifests = [read_manifest(path) for path in plans]
    return [Source(*row) for row in zip(plans, manifests, plan_names(manifests))]


def publish(
    repository: Path, name: str, sources: Sequence[Source], options: ServingOptions, keep: int = 0
) -> Published:
    """Adds a version with these plans, unless the newest holds them, and brings config.pbtxt up to date.

    A process that dies in here leaves the repository as it was or as it is to be; the next call clears up after it.

    Args:
        name: the model's name for Triton and its clients.
        sources: one plan, or one for each compute capability.
        keep: how many versions stay at most; 0: all.

    Raises:
        UsageError: the repository cannot be written, or the model in it has other inputs, outputs or batch sizes.
        PlanError: a plan changed while it was copied.
    """
    if 0 < keep < options.served:
        raise UsageError(f"--keep {keep}: {options.served} versions are to be served; keep as many at least")
    agreed = contract([source.manifest for source in sources])
    message = model_config(name, agreed, options)
    try:
        with _locked(repository), _staging(repository) as staging:
            model = repository / name
            versions = _versions(model)
            if model.exists():
                _check_contract(model, versions, agreed)
            published = _add(staging, model, versions, sources, HEAD + write_text(message), options)
            return published._replace(removed=_trim(staging, model, keep))
    except OSError as error:
        raise UsageError(_refusal(repository, error)) from None


def _add(
    staging: Path, model: Path, versions: List[int], sources: Sequence[Source], text: str, options: ServingOptions
) -> Published:
    """The version, then the config: with either alone the model is whole, since both keep the contract."""
    if not versions:
        whole = staging / model.name
        _write_version(whole / "1", sources)
        _write_config(staging, whole, text, options)
        _move(whole, model)
        return Published(1, True, True, ())
    version, is_new = versions[-1], not _holds(model / str(versions[-1]), sources)
    if is_new:
        version += 1
        _write_version(staging / str(version), sources)
        _move(staging / str(version), model / str(version))
    return Published(version, is_new, _write_config(staging, model, text, options), ())


def _versions(model: Path) -> List[int]:
    """Triton's rule: folders named by a number that does not begin with 0."""
    names = [path.name for path in model.iterdir() if path.is_dir()] if model.is_dir() else []
    return sorted(int(name) for name in names if re.fullmatch("[1-9][0-9]*", name))


def _manifests_of(version: Path) -> Dict[str, Any]:
    """The manifests in a version's folder by plan file; raises PlanError where a plan and its manifest disagree."""
    manifests = {path.name: read_manifest(path) for path in sorted(version.glob("*.plan"))}
    for name, manifest in manifests.items():
        if not {"inputs", "outputs"} <= manifest.keys():
            raise PlanError(f"{version / name}.json: is of an older program and names no inputs; choose another --name")
    return manifests


def _check_contract(model: Path, versions: Sequence[int], agreed: Contract) -> None:
    """Versions are interchangeable: a client must not notice a new one, and taking it away again must work."""
    if not versions:
        raise UsageError(f"{model}: is there and holds no version; remove it, or choose another --name")
    newest = model / str(versions[-1])
    manifests = list(_manifests_of(newest).values())
    if not manifests:
        raise UsageError(f"{newest}: holds no plan of `run.py triton`; choose another --name")
    found = differences(contract(manifests), agreed)
    if found:
        raise UsageError(
            f"{model}: version {versions[-1]} and the new plan differ in what clients see: {'; '.join(found)}; "
            f"serve it under another --name, or remove {model}"
        )


def _holds(version: Path, sources: Sequence[Source]) -> bool:
    """Whether a version is these plans already, so that a command given twice adds nothing."""
    found = {name: manifest["plan"]["sha256"] for name, manifest in _manifests_of(version).items()}
    return found == {source.name: source.manifest["plan"]["sha256"] for source in sources}


def _write_version(folder: Path, sources: Sequence[Source]) -> None:
    folder.mkdir(parents=True)
    for source in sources:
        target = folder / source.name
        _copy(source.path, target)
        if sha256_of_file(target) != source.manifest["plan"]["sha256"]:
            raise PlanError(f"{source.path}: changed while it was copied; run the command again")
        write_whole(Path(f"{target}.json"), json_bytes(source.manifest))
    _sync(folder)


def _write_config(staging: Path, model: Path, text: str, options: ServingOptions) -> bool:
    """Replaces labels and config.pbtxt where they differ, labels first since the config names them."""
    if options.labels is not None:
        _replace(staging, model / LABELS, options.labels.read_bytes())
    return _replace(staging, model / CONFIG, text.encode())


def _replace(staging: Path, path: Path, content: bytes) -> bool:
    """Whether the file changed: Triton loads a model anew when its config is touched, so an equal one is left alone."""
    if path.is_file() and path.read_bytes() == content:
        return False
    write_whole(staging / path.name, content)
    _move(staging / path.name, path)
    return True


def _trim(staging: Path, model: Path, keep: int) -> Tuple[int, ...]:
    """Gives up the oldest versions: out of the repository in one step, then deleted."""
    old = _versions(model)[:-keep] if keep else []
    for version in old:
        _move(model / str(version), staging / f"old-{version}")
    return tuple(old)


def _copy(source: Path, target: Path) -> None:
    """A copy inside the kernel, which shares blocks where the filesystem can (btrfs, xfs).

    No hard link: whoever copies another plan over the original later would change a version that Triton serves.
    """
    with source.open("rb") as reading, target.open("wb") as writing:
        try:
            while os.copy_file_range(reading.fileno(), writing.fileno(), 1 << 30):
                pass
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
                raise
            shutil.copyfileobj(reading, writing, 1 << 20)
        writing.flush()
        os.fsync(writing.fileno())


def _move(source: Path, target: Path) -> None:
    """One step for whoever looks on, and on the disk when it returns."""
    os.rename(source, target)
    _sync(target.parent)


def _sync(folder: Path) -> None:
    """Names are data of their folder."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def _locked(repository: Path) -> Iterator[None]:
    """One publisher at a time; the kernel lets go when the process dies."""
    repository.mkdir(parents=True, exist_ok=True)
    handle = os.open(repository, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@contextlib.contextmanager
def _staging(repository: Path) -> Iterator[Path]:
    """An empty folder beside the repository; those of runs that died are cleared away, which the lock allows."""
    parent, prefix = repository.resolve().parent, f".{repository.resolve().name}.incoming-"
    for left in parent.glob(f"{glob.escape(prefix)}*"):
        shutil.rmtree(left)
    staging = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    try:
        yield staging
    finally:
        shutil.rmtree(staging)


def _refusal(repository: Path, error: OSError) -> str:
    if error.errno == errno.EXDEV:
        return (
            f"{repository}: is a mount point, and nothing outside it can be moved into it in one step; use a folder in "
            f"it: --repository {shlex.quote(str(repository / 'models'))}"
        )
    place = error.filename or repository
    return f"{place}: cannot be written: {error.strerror}; the repository serves what it served before"
