"""Identities, certificates and files of servers: made once, kept well, and refused otherwise with what to do."""

import socket
import stat

import pytest
from cryptography import x509
from typer.testing import CliRunner

import veilstat as vs
from tests.servers import ROOT, SERVERS, make_study
from veilstat.platform.cli import app
from veilstat.platform.identity_file import read_identity
from veilstat.platform.roster_file import read_roster, write_roster
from veilstat.platform.server import run_server
from veilstat.platform.server_file import load_server
from veilstat.platform.study_file import load_addresses, load_definition
from veilstat.transports.connection import Timeouts

PARTIES = {
    **dict.fromkeys(("north", "south", "west"), "owner"),
    **dict.fromkeys(SERVERS, "compute"),
    "server": "server",
    "analyst": "analyst",
}


@pytest.fixture
def folder(tmp_path):
    return make_study(tmp_path)


def certify(folder, out="private"):
    return CliRunner().invoke(app, ["certificates", "--study", str(folder / "study.toml"), "--out", str(folder / out)])


def test_every_party_gets_a_private_file_and_everybody_the_roster(folder):
    assert certify(folder, "fresh").exit_code == 0
    directory = read_roster(folder / "fresh/roster.toml")
    assert dict(directory.roster.roles) == PARTIES
    assert set(directory.addresses) == set(SERVERS)
    for name in PARTIES:
        path = folder / f"fresh/{name}.pem"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        identity = read_identity(path, name, directory.roster.keys[name])
        assert identity.public == directory.roster.keys[name]
        assert directory.roster.sealing.get(name) == (identity.sealing_key if name in SERVERS else None)
    assert "PRIVATE" not in (folder / "fresh/roster.toml").read_text()
    assert len(list((folder / "fresh").iterdir())) == len(PARTIES) + 1


def test_rosters_are_read_back_as_they_were_written(folder):
    directory = read_roster(folder / "private/roster.toml")
    (folder / "again.toml").write_text(write_roster(directory))
    assert read_roster(folder / "again.toml") == directory


def test_certificates_can_certify_nobody(folder):
    for text in read_roster(folder / "private/roster.toml").certificates.values():
        certificate = x509.load_pem_x509_certificate(text.encode())
        certificate.verify_directly_issued_by(certificate)
        assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        assert not certificate.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign


def test_nothing_is_overwritten(folder):
    before = {path: path.read_bytes() for path in (folder / "private").iterdir()}
    refused = certify(folder)
    assert isinstance(refused.exception, vs.SchemaError)
    assert refused.exception.code == "file_exists"
    (folder / "private/roster.toml").unlink()
    assert certify(folder).exception.code == "file_exists"
    assert all(path.read_bytes() == content for path, content in before.items() if path.exists())
    assert not (folder / "private/roster.toml").exists()


@pytest.mark.parametrize(
    ("before", "after", "code", "words"),
    [
        ("compute3 =", "compute4 =", "bad_address", "where 'compute3' listens"),
        ("[addresses]", "[addresses]\neve = 'host:1'", "bad_address", "'eve', who is no party"),
        ("[addresses]", "[addresses]\nnorth = 'host'", "bad_address", "'host' is not an address"),
        ("[addresses]", "[elsewhere]", "unknown_key", "elsewhere"),
        ("north =", "'../north' =", "bad_owner", "cannot be a file's"),
        ("north =", "'.north' =", "bad_owner", "cannot be a file's"),
        ("north =", "server =", "bad_owner", "belongs to another party"),
    ],
)
def test_studies_that_cannot_be_certified(folder, before, after, code, words):
    path = folder / "study.toml"
    path.write_text(path.read_text().replace(before, after, 1))
    refused = certify(folder, "fresh").exception
    assert (refused.code, words in str(refused)) == (code, True)
    assert not (folder / "fresh").exists()


def serve(folder):
    with pytest.raises(vs.VeilstatError) as error:
        run_server(folder / "compute1.toml")
    return error.value


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o610])
def test_a_private_key_that_others_can_touch_is_refused(folder, mode):
    (folder / "private/compute1.pem").chmod(mode)
    error = serve(folder)
    assert error.code == "key_readable_by_others"
    assert f"chmod 600 {folder / 'private/compute1.pem'}" in str(error)


def test_another_partys_key_and_files_without_one_are_refused(folder):
    key = folder / "private/compute1.pem"
    key.write_bytes((folder / "private/compute2.pem").read_bytes())
    assert serve(folder).code == "key_differs"
    key.write_text("no key")
    assert serve(folder).code == "bad_key"
    key.unlink()
    assert serve(folder).code == "no_file"


MISTAKES = [
    ("compute1.toml", "party =", "name =", "unknown_key"),
    ("compute1.toml", "party = ", "# ", "missing_key"),
    ("compute1.toml", '"compute1"', '"compute9"', "not_in_roster"),
    ("compute1.toml", '"compute1"', '"analyst"', "not_available"),
    ("compute1.toml", "handshake = 1", "handshake = 0", "bad_value"),
    ("compute1.toml", "handshake = 1", "handshake = 'soon'", "bad_value"),
    ("compute1.toml", "handshake = 1", "patience = 1", "bad_value"),
    ("compute1.toml", "party =", "listen = 'nowhere'\nparty =", "bad_value"),
    ("compute1.toml", "party =", "party", "bad_toml"),
    ("private/roster.toml", 'role = "compute"', 'role = "owner"', "no server for a party of role owner"),
    ("private/roster.toml", 'role = "compute"\n', "", "has role, key, certificate"),
    ("private/roster.toml", 'key = "', 'key = "00', "key of 32 bytes"),
    ("private/roster.toml", 'key = "', 'key = "zz', "hexadecimal"),
    ("private/roster.toml", "certificate", "diploma", "has role, key, certificate"),
    ("private/roster.toml", "[parties.analyst]", "[parties.eve]", "lists other parties"),
]


@pytest.mark.parametrize(("file", "before", "after", "words"), MISTAKES)
def test_mistakes_in_a_servers_file_or_in_the_roster_are_named(folder, file, before, after, words):
    """By their code, or where a roster's mistakes share one, by words."""
    path = folder / file
    path.write_text(path.read_text().replace(before, after, 1))
    error = serve(folder)
    assert error.code == words if file == "compute1.toml" else words in str(error)


def test_a_roster_whose_certificate_is_anothers_is_refused(folder):
    directory = read_roster(folder / "private/roster.toml")
    path = folder / "private/roster.toml"
    path.write_text(path.read_text().replace(directory.certificates["compute1"], directory.certificates["compute2"]))
    assert "'compute1' does not hold the key" in str(serve(folder))


def test_an_address_in_use_is_named(folder):
    place = read_roster(folder / "private/roster.toml").addresses["compute1"]
    with socket.create_server((place.host, place.port)):
        error = serve(folder)
    assert error.code == "cannot_listen"
    assert str(place) in str(error)


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), 86_401])
def test_timeouts_are_checked(seconds):
    with pytest.raises(ValueError, match="seconds"):
        Timeouts(idle=seconds)


def test_the_example_has_every_option_at_its_default():
    for name in SERVERS:
        config = load_server(ROOT / f"examples/servers/{name}.toml")
        assert (config.party, config.timeouts, config.listen, config.uploads) == (name, Timeouts(), None, None)
        assert config.identity == ROOT / f"examples/servers/private/{name}.pem"
    assert set(load_addresses(ROOT / "examples/servers/study.toml")) == set(load_definition(ROOT / "examples/servers/study.toml").servers)
