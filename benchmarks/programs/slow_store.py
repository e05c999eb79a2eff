"""Slow tracking server: answers an MLflow client's requests, each after some seconds."""

from __future__ import annotations

import json
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PLACE = "mlflow-artifacts:/1"
EXPERIMENT = {"experiment_id": "1", "name": "slow", "artifact_location": PLACE, "lifecycle_stage": "active"}
RUN = {"run_id": "1", "run_uuid": "1", "experiment_id": "1", "status": "RUNNING", "artifact_uri": f"{PLACE}/1"}
ANSWERS = {
    "get-by-name": {"experiment": EXPERIMENT},
    "get": {"run": {"info": RUN, "data": {}}, "experiment": EXPERIMENT},
    "create": {"experiment_id": "1", "run": {"info": RUN, "data": {}}},
    "update": {"run_info": RUN},
}
"""Answers by the last word of a path; `{}` for all others."""


class SlowStore:
    """Server that listens until the end of the process, on a free port, and counts answers and metrics."""

    def __init__(self, delay: float) -> None:
        self.answers, self.metrics, store = 0, 0, self

        class Handler(BaseHTTPRequestHandler):
            def _answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                time.sleep(delay)
                store.answers += 1
                with suppress(ValueError):  # not JSON: a file, or nothing
                    store.metrics += len(json.loads(body).get("metrics", []))
                text = json.dumps(ANSWERS.get(self.path.partition("?")[0].rsplit("/", 1)[-1], {})).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_POST = do_PATCH = do_PUT = _answer  # noqa: N815

            def log_message(self, format: str, *args: object) -> None: ...

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.uri = f"http://127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
