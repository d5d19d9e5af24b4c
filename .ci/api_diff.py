#!/usr/bin/env python3
"""Compare the public API with that of the last release: a change that breaks callers is refused unless it is accepted.

Conventions
    The last release is the newest tag ``vX.Y.Z`` before HEAD; before the first one, the commit that ``.ci/api_base`` names.
    Public is what the pages of ``docs/api`` show in either version, what those modules re-export, and ``avsrobust.__all__``.
    ``.ci/api_breaks`` lists the accepted changes, one a line as printed here; it is emptied once a release is tagged.

Exit status: 0 where nothing breaks, 1 where something does, 2 where there is nothing to compare with.
"""

from __future__ import annotations

import contextlib
import io
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import griffe

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "avsrobust"
BASE = ROOT / ".ci/api_base"
BREAKS = ROOT / ".ci/api_breaks"
# An entry of an API page: the module, and the members that it is limited to.
_ENTRY = re.compile(r"^::: (?P<module>[\w.]+)\n(?:    options:\n      members: \[(?P<members>[^\]]*)\])?", re.MULTILINE)


def last_release() -> str:
    """Return the tag or commit to compare with."""
    tag = _git("describe", "--tags", "--abbrev=0", "--match", "v[0-9]*")
    if tag.returncode == 0:
        return tag.stdout.decode().strip()
    if not BASE.is_file():
        print(".ci/api_diff.py: found no tag vX.Y.Z; fetch the history: git fetch --tags --unshallow", file=sys.stderr)
        raise SystemExit(2)
    return _lines(BASE)[0]


def unpack(reference: str, folder: Path) -> None:
    """Write the package and its API pages, as they were at `reference`, into `folder`."""
    archive = _git("archive", "--format=tar", reference, PACKAGE, "docs/api")
    if archive.returncode:
        print(
            f".ci/api_diff.py: {reference}: not in this clone ({archive.stderr.decode().strip()}); "
            "fetch the history: git fetch --tags --unshallow",
            file=sys.stderr,
        )
        raise SystemExit(2)
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
        tar.extractall(folder, filter="data")


def public_names(root: Path) -> set[str]:
    """Return the modules and objects that the API pages below `root` show."""
    names: set[str] = set()
    for page in sorted((root / "docs/api").glob("*.md")):
        for entry in _ENTRY.finditer(page.read_text(encoding="utf-8")):
            module, members = entry["module"], entry["members"]
            names |= {module} if members is None else {f"{module}.{name.strip()}" for name in members.split(",")}
    return names


def breaking_changes(old: Path, new: Path) -> list[str]:
    """Return one line for each change between two checkouts that breaks callers of the public API."""
    # Not the checkout that this runs in, which a relative path would find first.
    packages = [griffe.load(PACKAGE, search_paths=[folder], try_relative_path=False) for folder in (old, new)]
    names = public_names(old) | public_names(new) | {PACKAGE}
    exported = {path for package in packages for path in _exported(package, names)} - names
    breakages = [*griffe.find_breaking_changes(*packages), *griffe.find_breaking_changes(*_moved(*packages))]
    found = {
        f"{breakage.obj.path}: {breakage.kind.value}{_detail(breakage)}"
        for breakage in breakages
        if _is_public(breakage.obj, names | exported) and not _has_moved(breakage, exported)
    }
    return sorted(found)


def _exported(package: griffe.Object | griffe.Alias, names: set[str]) -> Iterator[str]:
    """Yield where the objects are defined that public modules re-export."""
    for name in names:
        with contextlib.suppress(KeyError, griffe.AliasResolutionError):
            module = package if name == PACKAGE else package[name.removeprefix(f"{PACKAGE}.")]
            # A page that names some members of a module may name what the module re-exports.
            found = [module] if module.is_alias else module.members.values() if module.is_module else []
            aliases = (member for member in found if isinstance(member, griffe.Alias))
            yield from (
                path for alias in aliases if alias.is_public for path in (alias.target_path, alias.canonical_path)
            )


def _moved(old: griffe.Object | griffe.Alias, new: griffe.Object | griffe.Alias) -> tuple[griffe.Module, griffe.Module]:
    """Return the definitions that are re-exports by now, and what they lead to: griffe compares none of those by itself."""
    was, now = griffe.Module("was"), griffe.Module("now")
    pending = [(old, new)]
    while pending:
        before, after = pending.pop()
        for name, member in before.members.items():
            found = after.members.get(name)
            if isinstance(found, griffe.Alias) and not isinstance(member, griffe.Alias):
                with contextlib.suppress(griffe.AliasResolutionError, griffe.CyclicAliasError):
                    now.members[member.path] = found.final_target
                    was.members[member.path] = member
            elif found is not None and not isinstance(member, griffe.Alias) and member.is_module:
                pending.append((member, found))
    return was, now


def _has_moved(breakage: griffe.Breakage, exported: set[str]) -> bool:
    """Return whether a definition is gone from a module that callers do not name; its re-export is compared by itself."""
    return isinstance(breakage, griffe.ObjectRemovedBreakage) and breakage.obj.path in exported


def _is_public(changed: griffe.Object | griffe.Alias, names: set[str]) -> bool:
    """Return whether an object, its class or its module is among the names; a module does not stand for those below it."""
    if changed.is_module:
        return changed.path in names
    # An alias belongs to the module that re-exports it, not to that of its target.
    module = (changed.parent or changed).module.path if changed.is_alias else changed.module.path
    inside = changed.path.removeprefix(f"{module}.").split(".")
    return any(".".join([module, *inside[:count]]) in names for count in range(len(inside) + 1))


def _detail(breakage: griffe.Breakage) -> str:
    """Return what changed, such as the parameter, on one line."""
    old, new = breakage.old_value, breakage.new_value
    if isinstance(breakage, griffe.ObjectRemovedBreakage):
        return ""
    if isinstance(old, griffe.Parameter) or isinstance(new, griffe.Parameter):
        return f" ({old.name if isinstance(old, griffe.Parameter) else new.name})"
    return f" ({' '.join(str(old).split())} -> {' '.join(str(new).split())})"


def _git(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, check=False)


def _lines(path: Path) -> list[str]:
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def main() -> int:
    """Print the changes that break callers and are not accepted."""
    reference = last_release()
    with tempfile.TemporaryDirectory() as folder:
        unpack(reference, Path(folder))
        found = breaking_changes(Path(folder), ROOT)
    accepted = set(_lines(BREAKS))
    refused = [line for line in found if line not in accepted]
    if not refused:
        accepted_too = f" but for the {len(found)} changes accepted in .ci/api_breaks" if found else ""
        print(f"API: nothing breaks callers since {reference}{accepted_too}")
        return 0
    print("\n".join(refused))
    print(f"API: {len(refused)} changes since {reference} break callers; undo them, or accept them:")
    print("add the lines above to .ci/api_breaks, and say in CHANGELOG.md what callers do instead")
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
