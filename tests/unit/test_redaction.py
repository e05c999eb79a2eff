"""Passwords and tokens are not shown, in whatever form an address holds them."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from cifar_lab.redaction import redacted, redacted_command


@pytest.fixture(autouse=True)
def _no_secret_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "MLFLOW_TRACKING_URI",
        "CIFAR_LAB_STORAGE",
        "CIFAR_LAB_NOTIFY",
        "PGPASSWORD",
        "MLFLOW_TRACKING_PASSWORD",
    ):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://t0ken@host:5000/x", "http://***@host:5000/x"),
        ("htp://joe:secret@host", "htp://joe:***@host"),
        ("postgresql+psycopg://cifar_lab@db:5432/optuna", "postgresql+psycopg://cifar_lab@db:5432/optuna"),
        ("postgresql://u:two words@host/db", "postgresql://u:***@host/db"),
        ("postgresql://u:a@b c/d@host/db is away", "postgresql://u:***@host/db is away"),
        ("http://u:12345@host", "http://u:***@host"),
        ("http://host:5000/x@y", "http://host:***@y"),
        ("http://u:12345/@host/x", "http://u:***@host/x"),
        ("postgresql://u:12/34/56@host:80/db", "postgresql://u:***@host:80/db"),
        ("redis://:12345/s@host/0", "redis://:***@host/0"),
        ("postgresql://u:12345/s w@host/db is away", "postgresql://u:***@host/db is away"),
        ("postgresql://u:12345 s/w@host:5432", "postgresql://u:***@host:5432"),
        ("http://u:12345/s, w@host:80/x", "http://u:***@host:80/x"),
        ("http://host:5000 for http://joe@h.org/x", "http://host:5000 for http://***@h.org/x"),
        ("http://[::1]:80/a@b", "http://[::1]:80/a@b"),
        ("http://host:5000, ask me@host.org", "http://host:5000, ask me@host.org"),
        ("https://host/?api_key=secret&x=1", "https://host/?api_key=***&x=1"),
        ("https://host/?apikey=secret", "https://host/?apikey=***"),
        ("postgresql://host/db?password=secret: it is away", "postgresql://host/db?password=***: it is away"),
        ("http://host/?token=se:cret&x=1", "http://host/?token=***&x=1"),
        ("https://host/?X-Amz-Signature=secret", "https://host/?X-Amz-Signature=***"),
        ("host=h password = 'it\\'s two' user=me", "host=h password = *** user=me"),
        ('{"password": "se\\"cret", "user": "me"}', '{"password": "***", "user": "me"}'),
        ("Authorization: Basic bWU6c2VjcmV0", "Authorization: Basic ***"),
        ("--notify slack://T1/T2/T3 -y", "--notify slack://*** -y"),
        ("--notify='json://u:p@h/a b' -y", "--notify=json://*** -y"),
        ("CIFAR_LAB_NOTIFY=json://h/T1 cifar-lab train", "CIFAR_LAB_NOTIFY=json://*** cifar-lab train"),
        ("--notify does not go with json://host", "--notify does not go with json://host"),
        ("2 tokens = 3 words; the password is not shown", "2 tokens = 3 words; the password is not shown"),
        ("mail joe@host.org about runs/a@b", "mail joe@host.org about runs/a@b"),
    ],
)
def test_a_secret_is_hidden_and_the_rest_stays(text: str, shown: str) -> None:
    assert redacted(text) == shown
    assert redacted(shown) == shown


@pytest.mark.parametrize("address", ["slack://T0kenA/T0kenB", "mailto://joe:T0kenA@host", "T0kenA", "json://h/T0 kenA"])
def test_an_address_to_notify_is_hidden_in_a_command_line(address: str) -> None:
    shown = address.partition("://")[0] + "://***" if "://" in address else "***"
    for words in (["cifar-lab", "train", "--notify", address, "-y"], ["cifar-lab", "train", f"--notify={address}"]):
        for command in (redacted_command(words), redacted_command(shlex.join(words))):
            assert "ken" not in command
            assert shown in command
            assert redacted_command(command) == command


def test_addresses_in_the_environment_are_hidden_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIFAR_LAB_NOTIFY", "json://joe:hunter2Hunter2@host/x slack://T0kenT0ken/A1")
    assert redacted("refused: hunter2Hunter2, T0kenT0ken/A1") == "refused: ***, ***"


SECRET = st.text(st.characters(min_codepoint=33, max_codepoint=0x24F, blacklist_categories=["Cc", "Zs"]), min_size=6)


@given(secret=SECRET, blank=st.booleans(), scheme=st.sampled_from(["http", "htp", "postgresql", "mysql+pymysql", "s3"]))
def test_no_password_of_an_address_is_shown(secret: str, blank: bool, scheme: str) -> None:
    password = f"q{secret[:3]} {secret[3:]}z" if blank else f"q{secret}z"
    assume("://" not in password)
    shown = redacted(f"cannot reach {scheme}://joe:{password}@host/db: no route")
    left = shown.removeprefix(f"cannot reach {scheme}://joe:")
    for written in (": no route", "host/db", "***"):
        left = left.replace(written, "")
    assert secret[3:] not in left
    assert password not in shown


@given(secret=SECRET, form=st.sampled_from(["http://h/?password={}&x=1", "http://h/?token={}", "http://h/?api_key={}"]))
def test_no_value_of_a_query_is_shown(secret: str, form: str) -> None:
    from urllib.parse import quote

    value = f"q{quote(secret, safe='')}z"
    assert value not in redacted(form.format(value))


@given(secret=st.text(min_size=6).map(lambda text: f"q{text}z"))
def test_no_password_of_a_command_line_is_shown(secret: str) -> None:
    assume("\n" not in secret)
    quoted = secret.replace("\\", "\\\\").replace("'", "\\'")
    words = ["cifar-lab", "sweep", "--storage", f"host=db password='{quoted}' user=me", "--study", "wide"]
    for shown in (redacted_command(words), redacted_command(shlex.join(words))):
        assert secret not in shown
        assert shlex.split(shown) == [*words[:3], "host=db password=*** user=me", *words[4:]]


def test_a_command_without_a_secret_stays_as_it_was_typed() -> None:
    assert redacted_command('cifar-lab train "model.width=8"  --yes') == 'cifar-lab train "model.width=8"  --yes'
    assert redacted_command("cifar-lab sweep --study 'open") == "cifar-lab sweep --study 'open"


def test_a_password_of_the_environment_is_hidden_wherever_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://joe:correct%20horse@host")
    monkeypatch.setenv("PGPASSWORD", "battery:/staple")
    text = "tried 'correct horse', then correct%20horse and battery:/staple"
    assert redacted(text) == "tried '***', then *** and ***"


@pytest.mark.parametrize(
    ("address", "secret"),
    [
        ("postgresql+psycopg://u:12345)secret@127.0.0.1:9/db", "secret"),
        ("http://u:123,sec@h/x", "sec"),
        ("http://u:12;sec@127.0.0.1:9", "sec"),
        ("postgresql+psycopg://me@corp.com:secretpw@127.0.0.1:9/db", "secretpw"),
        ("http://me@corp.com:sec77@127.0.0.1:9", "sec77"),
        ("the server said Basic dXNlcjpzZWNyZXQ= to us", "dXNlcjpzZWNyZXQ="),
        ("token Bearer abc123.def456.ghi", "abc123.def456.ghi"),
    ],
)
def test_passwords_that_look_like_ports_and_users_that_are_addresses_are_hidden(address: str, secret: str) -> None:
    assert secret not in redacted(address)
    assert secret not in redacted(f"MLflow on {address}: refused, see http://localhost:5000 for more")


@pytest.mark.parametrize(
    "text",
    [
        "http://localhost:5000, and more",
        "(http://127.0.0.1:5000)",
        "http://host:80/path?a=1 mail me@x.org",
        "basic usage",
    ],
)
def test_ports_stay(text: str) -> None:
    assert redacted(text) == text
