"""Several threads ask one open atlas at once, as the explorer's do."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.atlas.scans import scanned

SCRIPT = """
import sys, threading
import rot180

atlas = rot180.open(sys.argv[1])

def ask():
    for _ in range(100):
        atlas.rows("SELECT COUNT(*) FROM example one, example two, feature")
        atlas.rows("SELECT id FROM feature")

threads = [threading.Thread(target=ask, daemon=True) for _ in range(4)]
for one in threads:
    one.start()
for one in threads:
    one.join()
print("done")
"""


@pytest.mark.slow
def test_long_queries_of_several_threads_do_not_wait_for_each_other_forever(
    tmp_path: Path,
) -> None:
    """SQLite counts steps by calling Python, while another thread of Python waits for SQLite."""
    path = scanned(tmp_path / "x.atlas")
    words = [sys.executable, "-c", SCRIPT, str(path)]
    run = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert run.stdout == "done\n", run.stderr
