"""A deployment over Ray runs queries, refusals and losses; then all that it wrote, said and holds where others may look is searched for values of rows and for keys."""

import json
import os
import re
import ssl
import stat
from contextlib import suppress
from http.client import HTTPSConnection
from pathlib import Path

import psutil
import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key

import veilstat as vs
from tests.deployments import OWNERS, TABLES
from tests.test_ray_lines import ray_deployment
from veilstat.platform.identity_file import private_path

pytestmark = pytest.mark.long
ACCOUNTS = {owner: 734_912_887_451 + place for place, owner in enumerate(OWNERS)}
"""One row of each owner has such a number, which no clock, port or size has."""
COLUMN = """
[[columns]]
kind = "integer"
name = "account"
lower = 0
upper = 999999999999
"""


def prepare(folder):
    with (folder / "schema.toml").open("a") as schema:
        schema.write(COLUMN)
    for owner, rows in TABLES.items():
        rows.assign(account=[ACCOUNTS[owner], *range(1, len(rows))]).to_csv(folder / f"{owner}.csv", index=False)


@pytest.fixture
def deployment(tmp_path):
    with ray_deployment(tmp_path, prepare) as its:
        for owner in OWNERS:
            its.start_node(owner)
        yield its


def of_rows():
    """Rows' values, as text and as the integers that are added."""
    return {
        f"{owner}'s row {form}": text
        for owner, its in ACCOUNTS.items()
        for form, text in (("text", b"%d" % its), ("bytes", its.to_bytes(6, "little")))
    }


def of_keys(deployment):
    """Each private file's lines of Base64 and what they say, and the tokens."""
    private, found = deployment.folder / "private", {}
    for path in [private_path(private, name) for name in ("analyst", "server", *OWNERS)]:
        found |= {f"{path.name} seed": seed(path), f"{path.name} hex": seed(path).hex().encode()}
    for path in private.glob("*.pem"):
        blocks = re.findall(rb"-----BEGIN[A-Z ]*PRIVATE KEY-----\n(.*?)\n-----END", path.read_bytes(), flags=re.DOTALL)
        found |= {f"{path.name} line {place}": line for block in blocks for place, line in enumerate(block.splitlines()) if len(line) > 40}
    found |= {
        "authority.key": (private / "authority.key").read_bytes().splitlines()[1],
        "Ray's token": (private / "ray.token").read_bytes().strip(),
    }
    return found | {"alice's token": deployment.token.encode(), "bob's token": deployment.other_token.encode()}


def seed(path):
    return load_pem_private_key(path.read_bytes(), None).private_bytes_raw()


def processes(deployment):
    """All of the deployment's, with what Ray started."""
    for name, its in deployment.processes.items():
        for process in (psutil.Process(its.pid), *psutil.Process(its.pid).children(recursive=True)):
            yield name, process


def written(deployment):
    """Every file that is neither a table nor a secret of somebody's."""
    own = {deployment.folder / f"{owner}.csv" for owner in OWNERS}
    for top in (deployment.folder, *Path("/tmp").glob(f"{Path(deployment.directory).name}*")):
        for path in top.rglob("*"):
            if path.is_file() and not path.is_symlink() and path.parent != deployment.folder / "private" and path not in own:
                yield str(path), path.read_bytes()


def shown(deployment):
    """What every account of a machine sees of processes, and what those of the same account do."""
    for name, process in processes(deployment):
        for part in ("cmdline", "environ"):
            with suppress(OSError):
                yield f"{part} of {name}: {process.pid}", Path(f"/proc/{process.pid}/{part}").read_bytes()


def stored(deployment):
    """The pages that were ever written to in the memory of Ray's object stores."""
    for name, process in processes(deployment):
        for entry in Path(f"/proc/{process.pid}/fd").iterdir():
            with suppress(OSError):
                if "plasma" not in os.readlink(entry):
                    continue
                with entry.open("rb") as file:
                    for start, end in extents(file):
                        yield f"store of {name}, from {start}", os.pread(file.fileno(), end - start, start)


def extents(file):
    place = 0
    while True:
        try:
            start = os.lseek(file.fileno(), place, os.SEEK_DATA)
        except OSError:
            return
        place = os.lseek(file.fileno(), start, os.SEEK_HOLE)
        yield start, place


def answered(deployment):
    """What the gateway says to whom."""
    context = ssl.create_default_context(cafile=str(deployment.folder / "private/authority.pem"))
    for method, path in (
        ("GET", "/v1/study"),
        ("GET", "/v1/status"),
        ("GET", "/openapi.json"),
        ("GET", "/v1/x"),
        ("POST", "/v1/sessions/0/frames"),
    ):
        for token in (deployment.token, "wrong"):
            connection = HTTPSConnection("127.0.0.1", deployment.port, context=context)
            connection.request(method, path, headers={"authorization": f"Bearer {token}"})
            response = connection.getresponse()
            yield f"{method} {path}", b"\n".join((*(f"{name}: {text}".encode() for name, text in response.getheaders()), response.read()))
            connection.close()


def holding(needles, places):
    return {(where, what) for where, content in places for what, needle in needles.items() if needle in content}


def open_to_others(deployment):
    """Sockets, records and keys that another account could use; Ray's own directories stand within one that is closed."""
    public = {"study.toml", "schema.toml", "roster.toml", "authority.pem"}
    for path in (deployment.folder / "private").iterdir():
        if path.name not in public and stat.S_IMODE(path.stat().st_mode) & 0o077:
            yield path
    for path in (*(deployment.folder / owner for owner in OWNERS), *Path("/tmp").glob(f"{Path(deployment.directory).name}*")):
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            yield path
    log = deployment.folder / "coordinator.log"
    if stat.S_IMODE(log.stat().st_mode) & 0o077:
        yield log


def test_no_file_log_process_store_or_answer_holds_a_value_of_a_row_or_a_key(deployment):
    study, messages = deployment.connect(), []
    result = study.mean("account")
    assert result.n == sum(map(len, TABLES.values()))
    assert study.linear_regression("account ~ bp").n == result.n
    (deployment.relays("west")[0]).kill()
    deployment.wait_for("lost", "west", seconds=60)
    for ask in (lambda: study.mean("account"), lambda: study.sum("nothing"), lambda: deployment.connect(token="wrong")):
        with suppress(vs.VeilstatError):
            ask()
    rows = (deployment.folder / "south.csv").read_text()
    (deployment.folder / "south.csv").write_text(rows.replace(str(ACCOUNTS["south"]), f"{ACCOUNTS['south']}{ACCOUNTS['south']}"))
    with pytest.raises(vs.VeilstatError) as error:
        study.mean(["account", "bp"])
    messages.append(("error", str(error.value).encode()))

    rows, keys = of_rows(), of_keys(deployment)
    found = [*written(deployment), *shown(deployment), *stored(deployment), *answered(deployment), *messages]
    assert holding(rows | keys, found) == set()
    assert list(open_to_others(deployment)) == []

    wheres = " ".join(where for where, _ in found)
    assert all(
        word in wheres
        for word in (
            "raylet.out",
            "gcs_server.out",
            "owner.log",
            "coordinator.log",
            "cmdline of west-node",
            "store of north-node",
            "GET /v1/status",
        )
    )
    tables = [(owner, (deployment.folder / f"{owner}.csv").read_bytes()) for owner in OWNERS]
    assert {owner for owner, _ in holding(rows, tables)} == set(OWNERS)
    private = [(path.name, path.read_bytes()) for path in (deployment.folder / "private").iterdir()]
    assert len(holding(keys, private)) > 10
    assert any(b"RAY_AUTH_TOKEN_PATH" in content for where, content in found if "environ of west-node" in where)
    assert len(keys) > 20
    assert json.loads(next(content for where, content in found if where == "GET /v1/status").split(b"\n")[-1])["query"] is None
