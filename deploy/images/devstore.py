"""An S3 server for trying things out: MiniStack with one bucket. No access control, nothing is kept. For no production.

`python devstore.py` serves on port 4566 of all addresses, or on GATEWAY_PORT, and makes the bucket `datamodels`.
"""

import os
import signal
import subprocess
import sys
import time
import urllib.request

BUCKET = f"http://127.0.0.1:{os.environ.get('GATEWAY_PORT', '4566')}/datamodels"
START_SECONDS = 120
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # whatever proxy there is, we are not behind it


def main() -> int:
    environ = os.environ | {"SERVICES": "s3"}
    with subprocess.Popen([sys.executable, "-m", "ministack"], env=environ) as server:
        signal.signal(signal.SIGTERM, lambda number, frame: server.terminate())
        try:
            make_bucket()
            return server.wait()
        finally:
            server.terminate()


def make_bucket() -> None:
    """Raises OSError where the server does not come up in time."""
    end = time.monotonic() + START_SECONDS
    while True:
        try:
            DIRECT.open(urllib.request.Request(BUCKET, method="PUT"), timeout=10).close()
            return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)


if __name__ == "__main__":
    sys.exit(main())
