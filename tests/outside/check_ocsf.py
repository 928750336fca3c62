#!/usr/bin/env python3
"""Holds every event against the OCSF models of `pydantic-ocsf`.

    check_ocsf.py FILE|DIR ...

A FILE has one event a line, as `coffer audit ... --ocsf` writes them; a DIR is
an export, whose leaves are events themselves. Exit code 0 if every event is
accepted by the model of the OCSF release that it names, 1 with the first one
of each file that is not.
"""

import importlib
import json
import pathlib
import sys

CLASSES = {6003: "ApiActivity", 2003: "ComplianceFinding", 3004: "EntityManagement"}


def events(path):
    """Name and text of each event."""
    if path.is_dir():
        for bundle in sorted((path / "tile" / "entries").rglob("*")):
            if bundle.is_file():
                data, at = bundle.read_bytes(), 0
                while at < len(data):
                    length = int.from_bytes(data[at : at + 2], "big")
                    yield f"{bundle}, byte {at}", data[at + 2 : at + 2 + length]
                    at += 2 + length
    else:
        for line, text in enumerate(path.read_bytes().splitlines(), 1):
            yield f"{path}, line {line}", text


def check(text):
    event = json.loads(text)
    release = "v" + event["metadata"]["version"].replace(".", "_")
    module = importlib.import_module(f"ocsf.{release}.events")
    getattr(module, CLASSES[event["class_uid"]]).model_validate(event)


def main():
    count, wrong = 0, []
    for name in sys.argv[1:]:
        for item, text in events(pathlib.Path(name)):
            count += 1
            try:
                check(text)
            except (ValueError, KeyError, TypeError, ImportError) as error:
                wrong.append(f"{item}: {error}")
                break
    if wrong or not count:
        sys.exit("\n".join(wrong) or "no events")
    print(f"{count} events accepted")


if __name__ == "__main__":
    main()
