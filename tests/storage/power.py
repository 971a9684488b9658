"""A disk that loses power: it keeps what was flushed, and of everything else what chance decides.

As POSIX has it, flushing a file keeps its bytes, but not its name: names are kept by flushing the folder that has them,
and the folder's own name by flushing the one above.
"""

import contextlib
import os
import stat
from pathlib import Path


class PowerLoss(BaseException):
    """The power fails. It is no Exception, so that no code handles it."""


class Disk:
    """Remembers what below a folder was flushed. The folder itself is there in any case.

    calls  how many calls of fsync succeed before the power fails at the next one; None if it does not fail in them
    """

    def __init__(self, top: Path, calls=None):
        self.top, self.calls = top, calls
        self._bytes: dict[int, bytes] = {}
        self._names: dict[int, dict[str, tuple[int, bool]]] = {}
        self._held: list[int] = []  # so that no number of a file is used again

    @contextlib.contextmanager
    def attached(self, patch):
        patch.setattr(os, "fsync", self.fsync)
        try:
            yield self
        finally:
            patch.undo()

    def fsync(self, descriptor):
        if self.calls == 0:
            raise PowerLoss
        self.calls = None if self.calls is None else self.calls - 1
        found = os.fstat(descriptor)
        self._held.append(os.dup(descriptor))
        if stat.S_ISDIR(found.st_mode):
            self._names[found.st_ino] = {e.name: (e.inode(), e.is_dir()) for e in os.scandir(descriptor)}
        else:
            self._bytes[found.st_ino] = Path(f"/proc/self/fd/{descriptor}").read_bytes()

    def restart(self, to: Path, chance):
        """Write to a folder what is on the disk when the power is back. `chance(n)` returns a number below n."""
        self._restore_folder(self.top, self.top.stat().st_ino, to, chance)
        for descriptor in self._held:
            os.close(descriptor)

    def _restore_folder(self, now, number, to, chance):
        kept = self._names.get(number, {})
        present = {} if now is None else {e.name: (e.inode(), e.is_dir()) for e in os.scandir(now)}
        for name in sorted(kept | present):
            states = [kept.get(name), present.get(name)]
            found = states[0] if states[0] == states[1] else states[chance(2)]
            if found is None:
                continue
            path = now / name if now is not None and found == present.get(name) else None
            if found[1]:
                (to / name).mkdir()
                self._restore_folder(path, found[0], to / name, chance)
            else:
                (to / name).write_bytes(self._restored(path, found[0], chance))

    def _restored(self, now, number, chance):
        kept = self._bytes.get(number)
        present = kept if now is None else now.read_bytes()
        if kept == present:
            return kept or b""
        return [kept or b"", present, present[: len(present) // 2], bytes(len(present))][chance(4)]
