from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.planted import MARK, plant
from watcher.errors import ConfigError, SwitchError
from watcher.switches import switch

GOOD = {"url": "https://unleash.example", "environment": "production", "token_file": "/run/secrets/unleash"}


@pytest.mark.parametrize(
    "url",
    [
        "https://unleash.example",
        "https://unleash.example/",
        "http://127.0.0.1:4242",
        "http://[::1]:4242",
        "https://example.com/tools/unleash",
        "https://example.com/api/unleash",
    ],
)
def test_the_address_that_people_open_is_taken(url: str) -> None:
    made = switch(f"unleash:{json.dumps({**GOOD, 'url': url})}")
    assert repr(made) == f"Unleash({url.rstrip('/')!r}, project='default', environment='production')"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("", r"kill.unleash: expected settings such as \{url, project, environment, token_file, ca_file\}"),
        ("https://unleash.example", r"kill.unleash: expected settings such as \{url, project"),
        ({**GOOD, "enviroment": "x"}, r"kill.unleash.enviroment: unknown key; did you mean 'environment'\?"),
        ({"url": "https://unleash.example", "token_file": "t"}, "kill.unleash.environment: is missing"),
        ({**GOOD, "environment": ""}, "kill.unleash.environment: String should have at least 1 character"),
        ({**GOOD, "project": 7}, "kill.unleash.project: Input should be a valid string"),
        ({**GOOD, "url": "unleash.example"}, "kill.unleash.url: expected an address"),
        ({**GOOD, "url": "ftp://unleash.example"}, "kill.unleash.url: expected an address"),
        ({**GOOD, "url": "https://"}, "kill.unleash.url: expected an address"),
        (
            {**GOOD, "url": f"https://me:{MARK}@unleash.example"},
            "kill.unleash.url: expected an address",
        ),
        (
            {**GOOD, "url": f"https://unleash.example/?token={MARK}"},
            "kill.unleash.url: expected an address",
        ),
        ({**GOOD, "url": "https://unleash.example\n"}, "kill.unleash.url: expected an address"),
        ({**GOOD, "url": "https://unleash.example/api"}, "kill.unleash.url: .* leave out /api"),
        ({**GOOD, "url": "https://unleash.example/api/"}, "kill.unleash.url: .* leave out /api"),
        ({**GOOD, "url": "https://unleash.example/api/frontend"}, "kill.unleash.url: .* leave out /api"),
    ],
)
def test_what_is_wrong_is_told_by_key_when_the_switch_is_made(settings: str | dict[str, object], words: str) -> None:
    written = settings if isinstance(settings, str) else json.dumps(settings)
    with pytest.raises(ConfigError, match=words) as raised:
        switch(f"unleash:{written}")
    assert MARK not in str(raised.value)


def test_placeholders_that_no_release_filled_yet_are_taken() -> None:
    assert "environment='{version}'" in repr(switch(f"unleash:{json.dumps({**GOOD, 'environment': '{version}'})}"))


def test_a_token_that_is_not_there_is_an_error_that_names_its_file_and_nobody_is_asked() -> None:
    absent = switch(f"unleash:{json.dumps({**GOOD, 'token_file': '/nonexistent/token'})}")
    with pytest.raises(SwitchError, match="/nonexistent/token: the secret cannot be read: No such file") as raised:
        absent.read("new-checkout")
    assert raised.value.permanent


def test_certificates_that_are_not_there_are_not_taken_for_an_unleash_that_is_gone(tmp_path: Path) -> None:
    plant(tmp_path / "token", f"*:*.{MARK}")
    told = {**GOOD, "token_file": str(tmp_path / "token"), "ca_file": "/nonexistent/ca.pem"}
    with pytest.raises(SwitchError, match=r"ca.pem: there are no certificates .* check ca_file") as raised:
        switch(f"unleash:{json.dumps(told)}").read("new-checkout")
    assert raised.value.permanent
