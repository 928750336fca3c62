"""Restores a tenant's backup without a line and without a program of Coffer:
from copies of the sites' disks, the shares that people bring, and the format
documents alone.

    reader keys --sites DIR --tenant NAME --share FILE... > tenant-keys.json
    reader restore --sites DIR --keys FILE --bucket NAME --target DIR
           (--tenant-share FILE... | --repository-key FILE) [--snapshot ID]
    reader objects --sites DIR --keys FILE --bucket NAME

`keys` is the ceremony of the custodians: it opens the root key and hands out
the keys of one tenant, and those of no other. `restore` needs nothing of the
provider but its disks. `objects` lists what would open: key, size, BLAKE3.
Sites that are not there are done without, as far as shards suffice.

Exit codes: 0 done; 1 refused; 3 too few shards of an object are left; 4
something is damaged beyond what the other shards make good.
"""

import argparse
import base64
import json
import pathlib
import sys

from blake3 import blake3

from objects import Tenant, open_sites, tenant_keys
from sealing import Refused, combine
from tree import Repository, restore


def bucket_of(flags):
    sites = open_sites(flags.sites)
    tenant = Tenant(sites, json.loads(pathlib.Path(flags.keys).read_text(encoding="utf-8")))
    return sites, tenant, tenant.objects(tenant.bucket(flags.bucket))


def run_keys(flags):
    json.dump(tenant_keys(open_sites(flags.sites), combine(flags.share), flags.tenant), sys.stdout)


def run_restore(flags):
    sites, tenant, objects = bucket_of(flags)
    names = {key.decode("utf-8"): version for key, version in objects.items()}
    read = lambda name: tenant.read(names[name])
    if flags.repository_key:
        opened = {"key": base64.b64decode(pathlib.Path(flags.repository_key).read_text(encoding="ascii"))}
    else:
        opened = {"recovery": combine(flags.tenant_share)}
    entries, total = restore(Repository(set(names), read, **opened), flags.snapshot, flags.target)
    damaged = sum(site.damaged for site in sites.values())
    json.dump({"entries": entries, "bytes": total, "sites": len(sites), "damaged_records": damaged}, sys.stdout)


def run_objects(flags):
    _, tenant, objects = bucket_of(flags)
    for key, version in sorted(objects.items()):
        content = tenant.read(version)
        print(key.decode("utf-8", "backslashreplace"), len(content), blake3(content).hexdigest())


def main():
    parser = argparse.ArgumentParser(prog="reader", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)

    def command(name, act, *needed):
        sub = commands.add_parser(name)
        sub.set_defaults(act=act)
        for flag in ("--sites", *needed):
            sub.add_argument(flag, required=True)
        return sub

    command("keys", run_keys, "--tenant").add_argument("--share", nargs="+", required=True)
    sub = command("restore", run_restore, "--keys", "--bucket", "--target")
    sub.add_argument("--snapshot")
    who = sub.add_mutually_exclusive_group(required=True)
    who.add_argument("--tenant-share", nargs="+")
    who.add_argument("--repository-key")
    command("objects", run_objects, "--keys", "--bucket")
    flags = parser.parse_args()
    try:
        flags.act(flags)
    except (Refused, OSError, ValueError, KeyError) as error:
        print(f"refused: {error}", file=sys.stderr)
        sys.exit(getattr(error, "code", 1))


main()
