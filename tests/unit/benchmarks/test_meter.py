from __future__ import annotations

import json
import subprocess
import sys

#: Uses 0.4 s of CPU in a grandchild that outlives the command.
ORPHAN = """
import subprocess, sys
burn = "import time\\nwhile time.process_time() < 0.4: pass"
subprocess.Popen([sys.executable, "-c", burn], start_new_session=True)
print("gone")
"""
#: In a process of its own: it adopts and waits for whatever is left behind.
METER = """
import json, sys
from benchmarks.accuracy.meter import CommandFailedError, run
ran = run([sys.executable, "-c", sys.argv[1]])
try:
    run([sys.executable, "-c", "import sys; sys.exit('no such thing')"])
    failed = ""
except CommandFailedError as error:
    failed = str(error)
print(json.dumps([ran.output, ran.cost.wall_s, ran.cost.cpu_s, failed]))
"""


def test_what_a_command_leaves_behind_is_waited_for_and_counted():
    done = subprocess.run([sys.executable, "-c", METER, ORPHAN], capture_output=True, check=True, text=True)
    output, wall_s, cpu_s, failed = json.loads(done.stdout)
    assert output == "gone\n" and wall_s > 0
    assert cpu_s >= 0.4
    assert "status 1" in failed and "no such thing" in failed
