"""Looks at a tree of images that another driver made, and carries out the plan that makes it a pool.

How this works. `check` refuses what cannot be a pool, `find` takes down what is there, and changes nothing. `carry_out`
adds what a plan (adopt/plan.py) says: directories, records and empty images, each durable and none over a name that is
there; then pool.toml, which makes it a pool. If anything fails before that, what was added is taken away again. Only
after it are files removed that someone asked to have removed, each if it still is of no use.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from collections.abc import Iterator

from lifecycle import ids, times
from lifecycle.adopt.findings import ON_CRASH, Found, FoundVolume, Plan, Planned
from lifecycle.config import POOL_FILE, PoolConfig
from lifecycle.engine import registry
from lifecycle.engine.pool import Pool
from lifecycle.errors import ForeignFile, InvalidName, NoReflinks, NotAPool, storage
from lifecycle.linux import copying, directories, embedded_xfs, files, holders, reflinks
from lifecycle.linux.directories import Directory
from lifecycle.machine import known_pools
from lifecycle.machine.trees import directories_below
from lifecycle.model import Finding
from lifecycle.reflink import look, names, seals
from lifecycle.reflink import record as records
from lifecycle.reflink.names import Kind
from lifecycle.reflink.scan import Evidence, gather
from lifecycle.reflink.store import Store
from lifecycle.reflink.verify import findings
from lifecycle.reflink.walk import volumes_in

log = logging.getLogger("lifecycle.adopt")

_OLD = ".old"
"""What the `file` driver puts behind the name of the changes that it keeps as the one revision."""


def check(path: str, *, setup_check: bool = True) -> None:
    """Check that the directory can be made a pool; change nothing.

    Raises:
        NotAPool: it is a pool, lies in one, is no directory, or cannot be written to.
        NoReflinks: the file system has none, and `setup_check` is not off. Where only trying would tell, `carry_out`
            tries.
    """
    if registry.read_pool_file(
        path, "there is no such directory"
    ) is not None or embedded_xfs.is_there(path):
        raise NotAPool(path, "is a pool already; `lifecycle list` shows what it holds")
    missing = known_pools.missing_at(path)
    if missing is not None:
        raise NotAPool(path, missing)
    above = os.path.dirname(os.path.realpath(path))
    while above != os.path.dirname(above):
        if os.path.lexists(os.path.join(above, POOL_FILE)):
            raise NotAPool(path, f"lies in the pool {above}, whose volumes its images are already")
        above = os.path.dirname(above)
    with Directory.open(path) as directory:
        if setup_check and reflinks.shares_blocks(directory) is False:
            raise NoReflinks(path)
    if not os.access(path, os.W_OK, effective_ids=True):
        is_read_only = os.statvfs(path).f_flag & os.ST_RDONLY
        code = errno.EROFS if is_read_only else errno.EACCES
        raise NotAPool(path, f"cannot be made a pool: {os.strerror(code)}")


def find(path: str) -> Found:
    """Take down what is in the tree.

    Raises:
        NotAPool: there is a pool in it.
        StorageFailed: it cannot be read.
    """
    store = Store(path, PoolConfig())
    vms: set[str] = set()
    volumes: dict[str, FoundVolume] = {}
    notes: list[Finding] = []
    removable: list[str] = []
    with storage(path, "look"), Directory.open(path) as root:
        notes += _no_vms(root, "")
        for vm, directory, _entries, problem, is_pool in directories_below(root):
            if is_pool:
                raise NotAPool(path, f"holds a pool of its own, {vm}; move that out of it first")
            if problem is not None:
                raise problem
            vms.add(vm)
            notes += _no_vms(directory, vm)
            for name in volumes_in(directory, directory.entries()):
                volumes[f"{vm}/{name}"] = _volume(store, f"{vm}/{name}", directory, name)
            removable += (f"{vm}/{file}" for file in _removable(directory))
        for finding in findings(path, None, ON_CRASH):
            if not (finding.harmful and finding.path in volumes):  # of volumes the plan says more
                notes.append(finding if "/" in finding.path else _at_the_top(finding))
    return Found(path, frozenset(vms), volumes, tuple(notes), tuple(removable))


def _volume(store: Store, volume_id: str, directory: Directory, name: str) -> FoundVolume:
    evidence = gather(directory, name)
    return FoundVolume(
        volume_id,
        evidence,
        history=look.revisions(store, volume_id, current=True),
        in_use_by=look.in_use_by(store, volume_id),
        filled=copying.holds_data(directory, evidence.file(Kind.CURRENT)),
        remarks=tuple(_remarks(directory, evidence)),
    )


def _remarks(directory: Directory, evidence: Evidence) -> Iterator[str]:
    """Say what is strange about a volume's files."""
    current, working = evidence.current, evidence.working
    if working is not None and working.st_nlink > 1:
        file = evidence.file(Kind.WORKING)
        yield f"{file} has another name somewhere (a hard link), so a stop will refuse to keep it"
    if current is not None:
        own = [one for one in evidence.revisions.values() if one.inode == current.st_ino]
        if current.st_nlink > 1 + len(own):
            file = evidence.file(Kind.CURRENT)
            yield f"{file} has another name somewhere (a hard link); nothing may write to it there"
    for file in evidence.revisions.doubles:
        yield f"{file} bears the number of another revision, and is not listed"
    if directory.stat(evidence.file(Kind.PRECACHE)) is not None:
        yield f"{evidence.file(Kind.PRECACHE)} was made ahead; the next start removes it"


def _no_vms(directory: Directory, path: str) -> Iterator[Finding]:
    """Yield the directories that cannot be VMs, whatever lies in them."""
    for entry in sorted(directory.entries(), key=lambda one: one.name):
        if entry.is_dir(follow_symlinks=False):
            vm = f"{path}/{entry.name}" if path else entry.name
            try:
                ids.check_vm(vm)
            except InvalidName as error:
                text = f"cannot be a VM: {error.reason}; it and all below it is left alone"
                yield Finding(ids.printable(vm), text, harmful=False)


def _at_the_top(finding: Finding) -> Finding:
    """Say of an image beside the VMs why it is no volume."""
    if names.parse_file(finding.path) is None:
        return finding
    text = "lies in no VM, so it is no volume; move it into a directory to make it one"
    return Finding(finding.path, text, harmful=False)


# ---------------------------------------------------------------- what the `file` driver left


def _removable(directory: Directory) -> Iterator[str]:
    """Yield the files of the `file` driver that are of no more use to it, of volumes that lack no changes."""
    for file in sorted(entry.name for entry in directory.entries()):
        if _is_removable(directory, file):
            yield file


def _is_removable(directory: Directory, file: str) -> bool:
    parsed = names.parse_file(file.removesuffix(_OLD))
    if parsed is None or parsed.kind != Kind.COW:
        return False
    if copying.holds_data(directory, parsed.volume + Kind.COW):
        return False
    try:
        fd = directory.open_file(file)
    except (FileNotFoundError, ForeignFile):
        return False
    try:
        return not holders.users(lambda: holders.ask(fd))
    finally:
        os.close(fd)


# ---------------------------------------------------------------- making it a pool


def carry_out(plan: Plan, *, setup_check: bool = True) -> Pool:
    """Make the tree a pool as planned, and return it; durable when this returns.

    Raises:
        NotAPool, NoReflinks, Unsupported, StorageFailed: it is no pool, and as it was.
    """
    with storage(plan.path, "adopt"), Directory.open(plan.path) as root:
        with contextlib.ExitStack() as taking_back:
            try:
                for vm in plan.directories:
                    taking_back.callback(root.remove_directory, vm)
                    root.child(vm, create=True).close()
                for one in plan.volumes:
                    _add(root, one, taking_back)
                pool = Pool.create(plan.path, keep=plan.keep, setup_check=setup_check)
            finally:
                if root.stat(POOL_FILE) is not None:
                    taking_back.pop_all()  # it is a pool, whatever failed after that
        for path in plan.removed:
            vm, _, file = path.rpartition("/")
            with root.child(vm) as directory:
                if not _is_removable(directory, file):
                    log.warning("%s stays: it came into use meanwhile", path)
                    continue
                directory.remove(file)
                directory.sync()
    return pool


def _add(root: Directory, one: Planned, taking_back: contextlib.ExitStack) -> None:
    """Add a volume's record, and then its empty image, which makes it be."""
    vm, name = ids.split_id(one.id)
    if one.record is None and one.empty is None:
        return
    with root.child(vm) as directory:
        if one.record is not None:
            with directory.draft(name + Kind.RECORD) as draft:
                files.write_all(draft.fd, records.write(one.record))
                draft.publish(name + Kind.RECORD)
                made = os.fstat(draft.fd)
            taking_back.callback(_take_back, root, vm, name + Kind.RECORD, made)
        if one.empty is not None:
            with directory.draft(name + Kind.CURRENT) as draft:
                files.truncate(draft.fd, one.empty)
                recorded = gather(directory, name).record
                at = recorded.at if recorded is not None else None
                files.set_time(draft.fd, seals.seal(0, seals.second_of(at or times.now())))
                draft.publish(name + Kind.CURRENT)
                made = os.fstat(draft.fd)
            taking_back.callback(_take_back, root, vm, name + Kind.CURRENT, made)
        directory.sync()


def _take_back(root: Directory, vm: str, file: str, made: os.stat_result) -> None:
    """Remove a file that was added, if it is still as it was added: others may use the tree meanwhile.

    It loses its name first, so that no one can open it between the look at it and its end.
    """
    with root.child(vm) as directory:
        aside = directories.temporary_name(file)
        try:
            directory.rename(file, aside)
        except FileNotFoundError:
            return
        found = directory.stat(aside)
        if found is not None and _is_as_made(directory, aside, found, made):
            directory.remove(aside)
            return
        log.warning("%s/%s stays: it was changed, or is in use, since it was added", vm, file)
        try:
            directory.link(aside, file)
        except FileExistsError:
            return  # someone has put another in its place meanwhile; this one stays beside it
        directory.remove(aside)


def _is_as_made(
    directory: Directory, file: str, found: os.stat_result, made: os.stat_result
) -> bool:
    if not os.path.samestat(found, made) or found.st_mtime_ns != made.st_mtime_ns:
        return False
    fd = directory.open_file(file)
    try:
        return not holders.is_open_elsewhere(fd)
    finally:
        os.close(fd)
