"""A DICOMweb server in this process, on 127.0.0.1, that fails as a test wants it to.

``faults[kind]`` is a list of functions that take the handler; each serves one request of that kind ("series",
"instances", "object", "store") in place of the right answer.
"""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pydicom

SOP, SERIES, STUDY = "00080018", "0020000E", "0020000D"
PREFIX = "/dicom-web"


class FakePacs(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, objects=(), *, context=None):
        super().__init__(("127.0.0.1", 0), Handler)
        self.scheme = "http" if context is None else "https"
        if context is not None:
            self.socket = context.wrap_socket(self.socket, server_side=True)
        self.objects = {}
        self.counts = {}  # NumberOfSeriesRelatedInstances, where it is to differ from what is there
        self.page = None  # objects per answer, all by default
        self.knows_offset = True
        self.faults = {"series": [], "instances": [], "object": [], "store": []}
        self.seen = []  # (kind, headers) of each request
        self.closing = threading.Event()
        for path in objects:
            self.keep(path.read_bytes())

    @property
    def url(self):
        return f"{self.scheme}://127.0.0.1:{self.server_port}{PREFIX}"

    def asked(self, kind):
        return sum(1 for seen, _ in self.seen if seen == kind)

    def keep(self, data):
        ds = pydicom.dcmread(pydicom.filebase.DicomBytesIO(data), stop_before_pixels=True)
        self.objects[str(ds.SOPInstanceUID)] = (ds, data)
        return ds

    def __enter__(self):
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *error):
        self.closing.set()
        self.shutdown()
        self.server_close()

    def handle_error(self, request, address):
        """Connections that the client gave up are part of the tests."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *words):
        pass

    def do_GET(self):
        url = urlsplit(self.path)
        words, self.query = url.path.removeprefix(PREFIX).strip("/").split("/"), parse_qs(url.query)
        kind = {3: "series", 5: "instances", 6: "object"}.get(len(words), "other")
        self.study, self.series, self.sop = [*words[1::2], "", "", ""][:3]
        self.serve(kind)

    def do_POST(self):
        self.body = self.rfile.read(int(self.headers["Content-Length"]))
        self.serve("store")

    def serve(self, kind):
        self.server.seen.append((kind, dict(self.headers)))
        faults = self.server.faults.get(kind, [])
        (faults.pop(0) if faults else Handler.RIGHT.get(kind, status(404)))(self)

    def answer(self, code, body=b"", content_type="application/dicom+json", **headers):
        self.send_response(code)
        for name, value in {"Content-Type": content_type, "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def answer_json(self, found):
        start = int(self.query.get("offset", ["0"])[0]) if self.server.knows_offset else 0
        end = None if self.server.page is None else start + self.server.page
        self.answer(200, json.dumps(found[start:end]).encode())

    def list_series(self):
        found = {}
        for ds, _ in self.server.objects.values():
            if ds.StudyInstanceUID == self.study:
                found.setdefault(str(ds.SeriesInstanceUID), []).append(ds)
        counts = {key: self.server.counts.get(key, len(members)) for key, members in found.items()}
        self.answer_json(
            [
                {
                    SERIES: {"vr": "UI", "Value": [key]},
                    "00080060": {"vr": "CS", "Value": [members[0].Modality]},
                    "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Doe^Secret"}]},
                    "00201209": {"vr": "IS", "Value": [counts[key]]} if counts[key] is not None else {"vr": "IS"},
                }
                for key, members in found.items()
                if self.query.get("SeriesInstanceUID", [key]) == [key]
            ]
        )

    def list_instances(self):
        self.answer_json(
            [
                {
                    SOP: {"vr": "UI", "Value": [key]},
                    "00200013": {"vr": "IS", "Value": [str(ds.get("InstanceNumber", ""))]},
                }
                for key, (ds, _) in self.server.objects.items()
                if (ds.StudyInstanceUID, ds.SeriesInstanceUID) == (self.study, self.series)
                and self.query.get("SOPInstanceUID", [key]) == [key]
            ]
        )

    def send_object(self):
        if self.sop not in self.server.objects:
            return self.answer(404)
        return multipart(self.server.objects[self.sop][1])(self)

    def store(self):
        ds = self.server.keep(self.sent_object())
        self.answer(200, json.dumps({"00081199": references(ds.SOPInstanceUID)}).encode())

    def sent_object(self):
        boundary = self.headers["Content-Type"].partition("boundary=")[2].strip('"').encode()
        part = self.body.split(b"--" + boundary)[1]
        return part.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n")

    RIGHT = {"series": list_series, "instances": list_instances, "object": send_object, "store": store}  # noqa: RUF012


def references(uid, **more):
    return {"vr": "SQ", "Value": [{"00081155": {"vr": "UI", "Value": [str(uid)]}, **more}]}


def multipart_body(*parts, boundary="b0undary", end="--\r\n"):
    head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    tail = f"\r\n--{boundary}{end}".encode()
    return b"\r\n".join(head + part for part in parts) + tail


# ---- faults ----------------------------------------------------------------------------------------------------------


def status(code, body=b"", **headers):
    return lambda handler: handler.answer(code, body, **headers)


def multipart(*parts, end="--\r\n", content_type='multipart/related; type="application/dicom"; boundary=b0undary'):
    return lambda handler: handler.answer(200, multipart_body(*parts, end=end), content_type)


def hang(handler):
    """No answer until the server closes."""
    handler.server.closing.wait(10)
    handler.close_connection = True


def cut(handler):
    """The connection ends instead of an answer."""
    handler.close_connection = True


def cut_within(data):
    """An answer that ends before the length it states."""

    def fault(handler):
        body = multipart_body(data)
        handler.send_response(200)
        handler.send_header("Content-Type", "multipart/related; boundary=b0undary")
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body[: len(body) // 2])
        handler.close_connection = True

    return fault


def after_storing(fault):
    """The object is kept, and then the answer goes wrong."""

    def stored(handler):
        handler.server.keep(handler.sent_object())
        fault(handler)

    return stored
