#!/usr/bin/python3
"""Records what kubectl asks while the contract tests run.

Make an empty directory; copy this file there as `kubectl.1.32`, executable, and
link the real binary beside it as `real`. Run the tests with that directory
first in PATH:

    cargo test -p coffer-embedded --test kubectl contract

Then `kubectl.1.32 --convert > kubectl-1.32.json` makes the file that
`recorded.rs` replays. Read the difference before it is committed: what the
answers say was taken from this server, so that a wrong answer is recorded like a right one.
"""
import base64, glob, http.client, json, os, re, ssl, subprocess, sys, tempfile, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HERE = os.path.dirname(os.path.abspath(__file__))
REAL = os.path.join(HERE, "real")
INTO = os.path.join(HERE, "runs")


def bare(path):
    return path.split("?")[0]


def credentials(user):
    context = None
    with tempfile.NamedTemporaryFile() as certificate, tempfile.NamedTemporaryFile() as key:
        for file, field in ((certificate, "client-certificate-data"), (key, "client-key-data")):
            file.write(base64.b64decode(user[field]))
            file.flush()
        context = ssl.create_default_context()
        context.load_cert_chain(certificate.name, key.name)
    return context


def record(arguments):
    """Runs the real binary with a proxy before the server."""
    config = json.load(open(os.environ["KUBECONFIG"]))
    cluster = config["clusters"][0]["cluster"]
    host = cluster["server"].split("//")[1]
    context = credentials(config["users"][0]["user"])
    context.load_verify_locations(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
    run = os.path.join(INTO, os.path.basename(os.environ["HOME"]).lstrip("."))
    os.makedirs(run, exist_ok=True)
    file, log, lock = os.path.join(run, "%d.json" % time.time_ns()), [], threading.Lock()

    def save():
        with lock:
            json.dump({"args": arguments, "requests": log}, open(file, "w"))

    class Proxy(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def relay(self):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            asked = {"method": self.command, "path": self.path, "accept": self.headers.get("Accept"),
                     "content_type": self.headers.get("Content-Type"), "body": body.decode(), "status": None, "answer": ""}
            with lock:
                log.append(asked)
            save()
            ours = ("host", "connection", "accept-encoding", "content-length")
            headers = {name: value for name, value in self.headers.items() if name.lower() not in ours}
            server = http.client.HTTPSConnection(host, context=context)
            server.request(self.command, self.path, body=body or None, headers=headers)
            answer = server.getresponse()
            asked["status"] = answer.status
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("transfer-encoding", "content-length", "connection", "date"):
                    self.send_header(name, value)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            try:
                while piece := answer.read1(65536):
                    asked["answer"] += piece.decode("utf8", "replace")
                    self.wfile.write(b"%x\r\n" % len(piece) + piece + b"\r\n")
                    self.wfile.flush()
                self.wfile.write(b"0\r\n\r\n")
            except OSError:
                pass
            server.close()

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = relay

    proxy = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    proxy.daemon_threads = True
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    ended = subprocess.call([REAL] + arguments + ["--server=http://127.0.0.1:%d" % proxy.server_port])
    save()
    os._exit(ended)


def objects(answer):
    """The objects of an answer, or of the lines of a watch."""
    try:
        return [json.loads(answer)]
    except ValueError:
        lines = (line for line in answer.split("\n") if line.strip())
        found = []
        for line in lines:
            try:
                found.append(json.loads(line)["object"])
            except (ValueError, KeyError, TypeError):
                pass
        return found


def learn(thing, path, uids, versions):
    """Remembers at which paths uids and resource versions were seen."""
    if not isinstance(thing, dict):
        return
    metadata, at = thing.get("metadata") or {}, bare(path)
    items = thing.get("items") or [row.get("object") for row in thing.get("rows") or []]
    if metadata.get("uid") and not items:
        if not at.endswith("/" + metadata["name"]):
            at += "/" + metadata["name"]
        uids.setdefault(metadata["uid"], at)
    if metadata.get("resourceVersion"):
        versions[metadata["resourceVersion"]] = at
    for item in items:
        inside = (item or {}).get("metadata") or {}
        if inside.get("uid"):
            place = at
            if inside.get("namespace") and "/namespaces/" not in at:
                place = re.sub(r"/([^/]+)$", "/namespaces/%s/\\1" % inside["namespace"], at)
            uids.setdefault(inside["uid"], place + "/" + inside["name"])


def says(answer):
    """What of an answer must be said again."""
    try:
        answer = json.loads(answer)
    except ValueError:
        return {}
    if not isinstance(answer, dict):
        return {}
    said = {"/" + field: answer[field] for field in ("kind", "apiVersion", "reason", "code", "openapi") if field in answer}
    kind = answer.get("kind", "")
    if kind == "Table":
        for at, column in enumerate(answer["columnDefinitions"]):
            said["/columnDefinitions/%d/name" % at] = column["name"]
    elif kind.endswith("List") and "discovery" not in answer.get("apiVersion", ""):
        for at, item in enumerate(answer.get("items") or []):
            if kind != "EventList":
                said["/items/%d/metadata/name" % at] = item["metadata"]["name"]
    elif (answer.get("metadata") or {}).get("name"):
        said["/metadata/name"] = answer["metadata"]["name"]
    return said


def convert():
    runs = []
    for directory in sorted(glob.glob(INTO + "/*"), key=lambda place: min(os.listdir(place))):
        commands, uids, seen = [json.load(open(file)) for file in sorted(glob.glob(directory + "/*.json"))], {}, set()
        for asked in (asked for command in commands for asked in command["requests"]):
            for thing in objects(asked["answer"]):
                learn(thing, asked["path"], uids, {})
        runs.append({"commands": [converted(command, uids, seen) for command in commands]})
    json.dump(runs, sys.stdout, indent=1)
    print()


def converted(command, uids, seen):
    requests, versions, gone = [], {}, []
    for asked in command["requests"]:
        at = bare(asked["path"])

        def filled(text, asked=asked, at=at):
            for uid, path in uids.items():
                text = text.replace(uid, "{uid:%s}" % path)
            of = lambda version: "{version:%s}" % versions.get(version, at.replace("/scale", ""))
            text = re.sub(r"resourceVersion=(\d+)", lambda found: "resourceVersion=" + of(found[1]), text)
            text = re.sub(r'"resourceVersion":"(\d+)"', lambda found: '"resourceVersion":"%s"' % of(found[1]), text)
            return re.sub(r"hash=[0-9a-f]+", "hash=0", re.sub(r"timeoutSeconds=\d+", "timeoutSeconds=60", text))

        made = {"method": asked["method"], "path": filled(asked["path"])}
        made.update({field: asked[field] for field in ("accept", "content_type") if asked[field]})
        if asked["body"]:
            made["body"] = filled(asked["body"])
        made["status"] = asked["status"] or 200
        if "watch=true" not in asked["path"]:
            if said := says(asked["answer"]):
                made["says"] = said
            for thing in objects(asked["answer"]):
                learn(thing, asked["path"], uids, versions)
        # What is on its way out may be gone before it is asked for again.
        if asked["method"] == "DELETE":
            gone.append(at.split("/")[-1])
        if asked["method"] == "GET" and made["status"] == 200 and any(name in asked["path"] for name in gone):
            continue
        # What every command asks first is enough once in each run.
        if at in ("/api", "/apis") or at.startswith("/openapi"):
            if at in seen:
                continue
            seen.add(at)
        # What was asked until it was so is kept as it was in the end.
        same = [known for known in requests if all(known.get(field) == made.get(field) for field in ("method", "path", "body"))]
        if same:
            same[0].clear()
            same[0].update(made)
        else:
            requests.append(made)
    return {"words": " ".join(command["args"]), "requests": requests}


if sys.argv[1:] == ["--convert"]:
    convert()
elif sys.argv[1:3] == ["version", "--client"]:
    os.execv(REAL, [REAL] + sys.argv[1:])
else:
    record(sys.argv[1:])
