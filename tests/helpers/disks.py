"""Make files as small as on a disk that is nearly full."""

import contextlib
import resource
import sys


@contextlib.contextmanager
def files_up_to(size):
    """Fail writes of this process beyond `size` bytes of a file, as on a full disk: halfway, after a part is written.

    Modules that are imported meanwhile leave no bytecode: Python would keep a file that was cut off, and fail to import
    it ever after.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        sys.dont_write_bytecode = bytecode
