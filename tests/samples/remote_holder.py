"""A process that writes two files to a remote folder, and pauses where its second argument says: working, putting, sleeping."""

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from avsrobust.folders import ensure_output_dir
from avsrobust.remote import lease, output_folder
from avsrobust.remote.store import Store

put = Store.put


def paused_put(self: Store, files: dict[str, Path], *known: Any) -> None:
    """Stop, as a process does whose machine sleeps, just before files are put."""
    if "a" in files and "putting" in sys.argv:
        os.kill(os.getpid(), signal.SIGSTOP)
    put(self, files, *known)


def main(url: str, pause: str, content: str) -> None:
    """Write the files."""
    lease.LEASE_S = 2.0
    lease._POLL_S = 0.2
    Store.put = paused_put  # type: ignore[method-assign, assignment]
    try:
        with output_folder(url, "avsrobust holder", "results", wait="wait" in sys.argv) as folder:
            ensure_output_dir(folder, "results", 1)
            (folder / "a").write_text(content)
            (folder / "b").write_text(content)
            (folder / "old").unlink(missing_ok=True)
            if pause == "working":
                os.kill(os.getpid(), signal.SIGSTOP)
            if pause == "sleeping":
                Path("begun").touch()
                time.sleep(600)
    except Exception as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main(*sys.argv[1:4])
