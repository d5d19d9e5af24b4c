"""Python's own names, which code of an adapter or a library may replace: whether they are still Python's when the command ends.

Conventions
    They are looked at once, at the end, so that nothing is slower for it, and put back first: messages need them.
    Names that others add to `builtins`, as gettext does, are no concern; nor is what was replaced before the command began.
"""

from __future__ import annotations

import builtins
import sys
from types import ModuleType

_NAMES = vars(builtins)
_AT_START = dict(_NAMES)
_HOOK = sys.excepthook
_MODULES = dict(sys.modules)
_OURS = frozenset(("avsrobust", "numpy", "torch", "pyarrow"))
# Python 3.11 has two classes there itself.
_ODD_BY_NATURE = "typing."
# Python's interactive mode keeps the last result there.
_LAST = "_"


def put_back() -> list[str]:
    """Return the names that were replaced, such as ``builtins.open``, with Python's own in their place again."""
    changed = [name for name, value in _AT_START.items() if _NAMES.get(name) is not value and name != _LAST]
    # From here on builtins are what they say.
    _NAMES.update(_AT_START)
    changed = [f"builtins.{name}" for name in changed]
    if not callable(sys.excepthook):
        sys.excepthook = _HOOK
        changed.append("sys.excepthook")
    roots = _OURS | sys.stdlib_module_names
    for name, entry in list(sys.modules.items()):
        if isinstance(entry, ModuleType) or str(name).startswith(_ODD_BY_NATURE):
            continue
        if str(name).partition(".")[0] in roots:
            changed.append(f"sys.modules[{name!r}]")
    if missing := _MODULES.keys() - sys.modules.keys():
        sys.modules.update({name: _MODULES[name] for name in missing})
        changed.append("sys.modules")
    return changed
