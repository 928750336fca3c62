#!/usr/bin/env python3
"""Draws a drill's sample again, from its public files alone.

Usage: sample.py DIRECTORY

DIRECTORY holds plan.json, population.txt, seed.txt, sample.txt and
record.json of one drill (`coffer drill show ID --export DIRECTORY`). The rule
is described in client/src/drill/SAMPLE.md; none of its code is shared.
Needs PyPI `cryptography` for the cosignature. Exits 1 naming what is wrong.
"""

import base64
import hashlib
import json
import sys
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from notes import WITNESS, BadNote, cosigned, key_id

RULE = "coffer-sample-v1"
PREDICATES = ("urn:coffer:drill:v2", "urn:coffer:drill:v3")
COSIGNER = "coffer-tenant-cosigner"
LEAVES_MAX = 64


class Wrong(Exception):
    """Something is not what it should be."""


def require(good, what):
    if not good:
        raise Wrong(what)


def sha256(data):
    return hashlib.sha256(data).digest()


def lines_of(text, name):
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        parts = line.split(" ")
        require(len(parts) == 3 and len(parts[0]) == 32 and len(parts[2]) == 64, f"{name}: line {number}")
        found.append((bytes.fromhex(parts[0]), line))
    require(text == "" or text.endswith("\n"), f"{name}: its last line does not end")
    return found


def check_cosignature(note, key):
    """The size of the checkpoint that the tenant's key cosigned."""
    tenant = (COSIGNER, key_id(COSIGNER, WITNESS, key), Ed25519PublicKey.from_public_bytes(key))
    try:
        cosigned(note, tenant)
    except BadNote as bad:
        raise Wrong(f"seed.txt: {bad}") from None
    return int(note.split("\n")[1])


def check_foreseen(plan, record, lines):
    """That the record foresaw what its plan did, for what was drawn. Plans of format 1 do not say enough."""
    planned, foreseen = plan["prediction"], record["predicted"]
    if plan["format"] == 1 or plan["scope"]["subject"] != "objects":
        require(planned["total_ns"] == foreseen["total_ns"], "record.json: another prediction than the plan's")
        return
    size = sum(int(line.split(" ")[1]) for line in lines)
    rates, total = planned["rates"], 0
    for phase in planned["phases"]:
        parts = phase["parts"]
        if phase["name"] == "read":
            parts = [len(lines) * rates["object_ns"], size * rates["object_mib_ns"] >> 20]
        total += sum(part * milli // 1000 for part, milli in zip(parts, phase["learned_milli"], strict=True))
    require(total == foreseen["total_ns"], "record.json: another prediction than plan and sample give")


def check(directory):
    read = lambda name: (directory / name).read_bytes()
    plan_bytes, record_bytes = read("plan.json"), read("record.json")
    plan = json.loads(plan_bytes)
    statement = json.loads(base64.b64decode(json.loads(record_bytes)["payload"]))
    require(statement["predicateType"] in PREDICATES, "record.json: another predicate")
    record = statement["predicate"]
    scope = plan["scope"]
    require(record["plan"]["sha256"] == sha256(plan_bytes).hex(), "plan.json is not the plan of the record")
    require(record["scope"] == scope and record["drill"] == plan["drill"], "record.json: another scope than the plan's")
    population_text = read("population.txt").decode()
    require(sha256(population_text.encode()).hex() == scope["population_sha256"], "population.txt is not the plan's")
    population = lines_of(population_text, "population.txt")
    ids = [version for version, _ in population]
    require(ids == sorted(set(ids)), "population.txt: not in order, each once")
    require(len(population) == scope["population"], "population.txt: another length than the plan's")
    if scope["rule"] == "all":
        check_foreseen(plan, record, [line for _, line in population])
        require(record["drawn"] is None and scope["sample"] == len(population), "a drill of all has no draw")
        return len(population), len(population)
    require(scope["rule"] == RULE, f"the rule {scope['rule']} is not known")
    drawn, seed_bytes = record["drawn"], read("seed.txt")
    require(drawn["checkpoint"].encode() == seed_bytes, "seed.txt is not the checkpoint of the record")
    size = check_cosignature(seed_bytes.decode(), base64.b64decode(scope["cosigner"], validate=True))
    ahead = size - record["plan"]["log_index"]
    require(1 <= ahead <= LEAVES_MAX, "seed.txt: not the checkpoint that came soon after the plan")
    require(drawn["log_index"] > record["plan"]["log_index"], "the seed was noted before the plan")
    seed = sha256(RULE.encode() + b"\n" + sha256(seed_bytes) + sha256(plan_bytes))
    require(drawn["seed"] == seed.hex(), "record.json: another seed than seed.txt gives")
    scored = sorted((sha256(seed + version), line) for version, line in population)
    text = "".join(line + "\n" for _, line in scored[: scope["sample"]])
    require(text == read("sample.txt").decode(), "sample.txt: skipped, swapped or drawn again")
    digest = sha256(text.encode()).hex()
    require(drawn["sample_sha256"] == digest, "record.json: another sample")
    require(record["results"]["expected_sha256"] == digest, "record.json: another sample was restored")
    check_foreseen(plan, record, text.splitlines())
    return scope["sample"], len(population)


def main():
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        sample, population = check(Path(sys.argv[1]))
    except (Wrong, KeyError, ValueError, OSError) as error:
        print(f"sample: WRONG: {error}", file=sys.stderr)
        return 1
    print(f"sample: {sample} of {population} drawn again, the same")
    return 0


if __name__ == "__main__":
    sys.exit(main())
