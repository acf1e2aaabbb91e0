"""Serves the model, and asks it for scores and for its page."""

import json
import re
import subprocess
import sys
from urllib.request import Request, urlopen

command = [sys.executable, "-m", "memae", "serve", "rows.model", "--port", "0", "--device", "cpu"]
with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
    assert server.stderr is not None
    try:
        found = re.search(r"http://\S+", said := server.stderr.readline())
        assert found, said + server.stderr.read()
        rows = json.dumps([{"a": 0.0, "b": 0.0, "c": 0.0, "d": 0.0}]).encode()
        asked = Request(f"{found[0]}/v1/models/rows/score", rows, {"Content-Type": "application/json"})
        with urlopen(asked, timeout=30) as answer:
            assert len(json.load(answer)["samples"]) == 1
        for page in ("/", "/openapi.json", "/metrics"):
            with urlopen(found[0] + page, timeout=30) as answer:
                assert answer.read()
    finally:
        server.terminate()
        server.communicate()
