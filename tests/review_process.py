"""`python -m minscl.review` as a process of its own, and the requests of its page, for test_review_server.py and
test_review_journal.py."""

import http.client
import json
import subprocess
import sys
from urllib.parse import urlsplit

NOTE = "Chief complaint: cough.\nThe patient has pneumonia 🫁 and hypertension.\nShe denies chest pain.\n"
QUOTATION = {"text": "hypertension", "start": NOTE.index("hypertension"), "end": NOTE.index("hypertension") + 12}
ITEM = {
    "key": "0",
    "code": "I10",
    "description": "Essential (primary) hypertension",
    "evidence": [QUOTATION],
    "score": 0.5,
    "rules": [],
    "decision": "undecided",
    "added": False,
    "principal": False,
    "poa": None,
}
CODED = {"code": "I10", "description": ITEM["description"], "evidence": [QUOTATION]}


def entry(number, document="a", **changes):
    """A decision as the page sends it: the code of the document is accepted."""
    return {
        "entry": f"e-{number}",
        "at": "2026-11-26T23:30:05.123Z",
        "who": "Ann Coder",
        "document": document,
        "act": "accept",
        "code": "I10",
        "before": {"codes": {"0": ITEM}},
        "after": {"codes": {"0": {**ITEM, "decision": "accepted"}}},
        "undoes": None,
        **changes,
    }


def write_notes(path, *ids):
    """A .jsonl file of coded documents with NOTE as text."""
    path.write_text("".join(json.dumps({"id": id, "text": NOTE, "codes": [CODED]}) + "\n" for id in ids))
    return path


class ReviewProcess:
    """A running server; `folder` is its --out. Used as a context manager, which kills it at the end."""

    def __init__(self, folder, *arguments, **settings):
        self.folder = folder
        command = [sys.executable, "-m", "minscl.review", "--no-browser", "--out", str(folder), *map(str, arguments)]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder.parent, **settings
        )
        self.process.stdout.readline()
        address = urlsplit(self.process.stdout.readline().strip())
        self.port, self.token = address.port, address.query.partition("=")[2]
        assert self.port, self.process.stderr.read()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()

    def send(self, method, path, body=None, headers=(), **options):
        """(status, headers, text) of a request with the page's headers, changed by `headers`; None leaves one out."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        sent = {"X-Minscl-Token": self.token, "Origin": f"http://127.0.0.1:{self.port}", **dict(headers)}
        sent = {name: value for name, value in sent.items() if value is not None}
        content = body if body is None or not isinstance(body, (dict, list)) else json.dumps(body)
        try:
            connection.request(method, path, content, sent, **options)
            response = connection.getresponse()
            return response.status, response.headers, response.read().decode()
        finally:
            connection.close()

    def post(self, path, **body):
        """(status, answer) of a request to the API."""
        status, headers, text = self.send("POST", f"/api/{path}", body)
        return status, json.loads(text) if headers["Content-Type"] == "application/json" else text

    def entries(self, document="a"):
        """The ids of the decisions about a document that the server knows."""
        status, _, text = self.send("GET", f"/api/entries?document={document}")
        assert status == 200, text
        return [record["entry"] for record in json.loads(text)["entries"]]
