"""Who asks, and by what: credentials from files and the environment alone, TLS, time limits."""

from __future__ import annotations

import base64
import ssl
import subprocess

import pytest

from calvaria.errors import InputError
from calvaria.io.archive import Access, credentials_from, parse_address

WEB, DIMSE = parse_address("https://pacs/x"), parse_address("dicom://A@pacs")
TOKEN = credentials_from(environment={"CALVARIA_DICOM_TOKEN": "s3cret"})


def test_credentials_come_from_a_file_before_the_environment(tmp_path):
    (tmp_path / "token").write_text("abc.def\n")
    environment = {"CALVARIA_DICOM_TOKEN": "other"}
    assert credentials_from(token_file=tmp_path / "token", environment=environment).header == "Bearer abc.def"
    assert credentials_from(environment=environment).header == "Bearer other"
    assert credentials_from(environment={}) is None


def test_user_and_password_come_from_a_file_or_the_environment(tmp_path):
    (tmp_path / "login").write_text("jürgen:a:b")
    wanted = "Basic " + base64.b64encode("jürgen:a:b".encode()).decode()
    assert credentials_from(login_file=tmp_path / "login", environment={}).header == wanted
    environment = {"CALVARIA_DICOM_USER": "jürgen", "CALVARIA_DICOM_PASSWORD": "a:b"}
    assert credentials_from(environment=environment).header == wanted


@pytest.mark.parametrize(
    "text", ["", "\n", "s3cret\ns3cret", "s3cret\rX: y", "s3cret two", "s3crét", "s3cret" * 20_000]
)
def test_a_file_that_holds_no_token_is_refused_without_what_it_holds(tmp_path, text):
    (tmp_path / "token").write_bytes(text.encode())
    with pytest.raises(InputError, match="token: ") as raised:
        credentials_from(token_file=tmp_path / "token", environment={})
    assert "s3cr" not in str(raised.value)


@pytest.mark.parametrize("text", ["s3cret", ":s3cret", "a:s3cret\x00"])
def test_a_file_that_holds_no_login_is_refused_without_what_it_holds(tmp_path, text):
    (tmp_path / "login").write_text(text)
    with pytest.raises(InputError, match="login: ") as raised:
        credentials_from(login_file=tmp_path / "login", environment={})
    assert "s3cret" not in str(raised.value)


def test_one_file_of_credentials_is_enough(tmp_path):
    with pytest.raises(InputError, match="--token-file and --login-file: give one of them"):
        credentials_from(token_file=tmp_path / "a", login_file=tmp_path / "b", environment={})


def test_a_user_with_a_colon_is_refused():
    with pytest.raises(InputError, match="a user has no colon in it"):
        credentials_from(environment={"CALVARIA_DICOM_USER": "a:b"})


def test_credentials_are_never_shown():
    assert "s3cret" not in repr(Access(credentials=TOKEN))
    assert "s3cret" not in str(TOKEN)


@pytest.mark.parametrize(
    ("access", "text"),
    [
        ({"timeout_s": 0}, "--timeout: wanted seconds above 0 and up to a day, got 0"),
        ({"timeout_s": float("nan")}, "--timeout: wanted seconds"),
        ({"ae_title": "A" * 17}, "--ae-title: wanted 1 to 16"),
        ({"ae_title": "  "}, "--ae-title: wanted 1 to 16"),
        ({"key_file": "k"}, "--key: the certificate that it belongs to is missing"),
    ],
)
def test_settings_that_make_no_sense_are_refused(access, text):
    with pytest.raises(InputError, match=text):
        Access(**access)


@pytest.mark.parametrize(
    ("address", "access", "text"),
    [
        ("dicom://A@pacs", {"ca_file": "x"}, "use dicoms://"),
        ("http://pacs/x", {"cert_file": "x"}, "use https://"),
        ("dicoms://A@pacs", {"credentials": TOKEN}, "a token is for DICOMweb; dicoms:// knows none"),
        ("http://pacs/x", {"credentials": TOKEN}, "the token would go over the net for all to read; use https://"),
        ("http://127.0.0.1.example/x", {"credentials": TOKEN}, "for all to read"),
        ("http://localhost.example/x", {"credentials": TOKEN}, "for all to read"),
    ],
)
def test_what_would_be_ignored_or_seen_by_others_is_refused(address, access, text):
    with pytest.raises(InputError, match=text):
        Access(**access).require_fits(parse_address(address))


@pytest.mark.parametrize("address", ["https://pacs/x", "http://127.0.0.1/x", "http://[::1]/x", "http://localhost/x"])
def test_credentials_may_go_over_tls_and_to_this_machine(address):
    Access(credentials=TOKEN).require_fits(parse_address(address))


def test_the_archives_certificate_and_name_are_always_checked(certificates):
    for access in (Access(), Access(ca_file=certificates.authority, cert_file=certificates.client)):
        context = access.tls()
        assert context.verify_mode == ssl.CERT_REQUIRED
        assert context.check_hostname


def test_the_password_of_a_key_comes_from_the_environment_and_is_never_asked_for(tmp_path, certificates, monkeypatch):
    key = tmp_path / "key.pem"
    words = ["openssl", "ec", "-aes256", "-passout", "pass:s3cret", "-in", str(certificates.client), "-out", str(key)]
    subprocess.run(words, check=True, capture_output=True)
    access = Access(cert_file=certificates.client, key_file=key)
    with pytest.raises(InputError, match="the password of an encrypted key is taken from CALVARIA_DICOM_KEY_PASSWORD"):
        access.tls()
    monkeypatch.setenv("CALVARIA_DICOM_KEY_PASSWORD", "s3cret")
    access.tls()


def test_files_that_are_no_certificates_are_refused(tmp_path, certificates):
    (tmp_path / "none.pem").write_text("none")
    with pytest.raises(InputError, match=r"--ca-file: .*none.pem holds no certificates; wanted PEM"):
        Access(ca_file=tmp_path / "none.pem").tls()
    with pytest.raises(InputError, match="there is no such file"):
        Access(ca_file=tmp_path / "missing.pem").tls()
    with pytest.raises(InputError, match="--cert, --key: not a certificate and its own private key"):
        Access(cert_file=certificates.client, key_file=certificates.server).tls()
