"""Logging never stands in the way of what is logged."""

import os
import subprocess
import sys

LOG_MUCH = """
import structlog
from mcp_server import logs
logs.configure("json")
log = structlog.get_logger()
for _ in range(1000):
    log.info("something happened")
print("went on")
"""


def test_who_cannot_write_a_line_goes_on_without_it() -> None:
    reads, writes = os.pipe()
    os.close(reads)  # as good as a full disk: nothing can be written any more
    done = subprocess.run(
        [sys.executable, "-c", LOG_MUCH], stdout=subprocess.PIPE, stderr=writes, check=False
    )
    os.close(writes)
    assert done.stdout == b"went on\n"
