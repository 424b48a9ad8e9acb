"""The commented files that `veilstat init` writes, for a trial on one machine; hosts and paths are changed from there."""

STUDY = """# A study, publicly: every party keeps the same file. What differs between parties stands in files of their own.

architecture = "{architecture}" # "masking", "sharing" or "homomorphic"
schema = "schema.toml" # agreed columns with bounds: they fix encodings, and nothing about the data may be read off them
owners = {owners}

[{architecture}]
{options}

[policies] # what owners permit, published: a plan holds their digests
{policies}

[addresses] # where compute servers listen, as the others see it; only "sharing" has any
{addresses}

[coordinator] # read by `veilstat coordinator`; paths are relative to this file
roster = "private/roster.toml" # public, the same for all: keys, roles, certificates
identity = "private/server.pem" # the coordinator's own key, 0600
gateway = "{gateway}" # where analysts reach the gateway, by HTTPS; its certificate holds this name
# listen = "0.0.0.0:8443" # where it listens, if that is not the same
certificate = "private/gateway.pem" # from `veilstat certificates`; `veilstat renew` issues it anew once a year
tokens = "private/tokens.toml" # SHA-256 of the analysts' tokens; `veilstat token NAME` adds one
log = "coordinator.log" # one JSON object for each event: parties, codes, no data
progress = 60 # seconds that a round waits for owners, before it goes on without them
epoch = "epoch" # 0700, made where it is missing: owners' encrypted rows, where [homomorphic] entry = "rows"
# threads = 2 # that take masks off long vectors; one for each core, at most 8, if this line is left out

{lines}
"""

ROWS = """entry = "rows" # owners share their rows once, with `veilstat rows share`; "totals" are asked of them at every query"""

RAY = """# [coordinator.sockets] # instead of Ray, for owners whose agents run on the coordinator's own machine
# north = "north/state/agent.sock"

[coordinator.ray] # how owners' nodes are reached
head = "{head}" # where Ray's head listens; not on a name or address that other networks reach
token = "private/ray.token" # the cluster's, 0600, the same on every node
certificates = "private" # ray-head.pem here, ray-OWNER.pem on that owner's node, authority.pem on all
directory = "{directory}" # Ray's own: absolute, short, on a disk that forgets
# workers = 2 # so many of Ray's tasks on this machine add large masked vectors beside the coordinator; measure whether that pays
ports = {ports} # the first of 50 that the head uses besides; Ray chooses if this line is left out

[coordinator.ray.nodes] # the address of each owner's node, for which it gets a certificate
{nodes}

[coordinator.ray.node_ports] # the first of 50 ports of each node (`veilstat node --ports`), for `veilstat doctor`; may be left out
{node_ports}
"""

OWNER = """# The agent of one data owner: `veilstat owner --config owner.toml`, under an account of its own. Paths are relative to this file.

party = "{owner}" # who this is, in the roster
study = "../study.toml" # the owner's own copy of what every party agreed on
roster = "../private/roster.toml" # public; compare its keys with the other owners over another channel
identity = "../private/{owner}.pem" # this owner's key, 0600; nobody else's file belongs here
policy = "policy.toml" # what this owner permits; the study publishes the same
socket = "state/agent.sock" # for relays; it authenticates an account and no program, so frames are signed
# relays = "veilstat-relay" # a group that may use the socket besides, where the node has an account of its own, as it should;
#                             the socket then stands where that account may look, such as /run/veilstat/agent.sock
state = "state" # 0700: the log, and what must be remembered: queries answered, openings, the privacy ledger. Back it up
# approvals = "state/approvals.sock" # for `veilstat approvals`; never where a relay's account reaches
progress = 150 # seconds that a round waits for the others before this owner ends the query

[table] # the rows, which only this process reads
file = "{table}" # CSV or Parquet
# sql = "select age, bp from visits" # or a query, with DuckDB
# database = "clinic.duckdb"
"""

POLICY = """# What a data owner permits. Everything but `approval` is published; a line that is left out permits all.

# statistics = ["mean", "linear_regression"]
# columns = ["age", "bp"]
# most_openings = 100 # numbers that one query may open
min_owners = 2 # the fewest owners whose rows stand in one total with these
# budget = [1.0, 1e-6] # epsilon and delta of all releases together; exact answers are refused then
# approval = ["linear_regression"] # or "all": a person must grant each of these with `veilstat approvals`;
#                                    not with [sharing] entry = "rows", where servers answer while this owner is away
"""

COMPUTE = """# One compute server of a deployment: `veilstat server --config {server}.toml`. Paths are relative to this file.

party = "{server}"
study = "study.toml"
roster = "private/roster.toml"
identity = "private/{server}.pem" # 0600
through = "server" # owners and analyst are reached through the coordinator
uploads = "{server}-rows" # 0700: shares of owners' rows, where [sharing] entry = "rows"; openings and ledgers are kept beside this file. Back them up
"""

SCHEMA = """# Agreed columns. An example: change it before anybody's data are described by it.

max_rows = 100000 # for each owner

[[columns]]
kind = "integer"
name = "age"
lower = 0
upper = 120
unit = "years"

[[columns]]
kind = "continuous"
name = "bp"
lower = 40
upper = 260
step = 0.5
unit = "mmHg"
"""
