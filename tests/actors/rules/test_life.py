"""Registrations: what a node says of itself, and what of that is refused."""

import json
from typing import Any

import pytest
from ringkeeper.actors.rules.fields import RingError
from ringkeeper.actors.rules.life import Registration, Stamp
from ringkeeper.tests.actors.rules.rings import hex64, registration

HELD = Stamp("c" * 16, 7, hex64(7))


@pytest.mark.parametrize("held", [None, HELD], ids=["fresh", "holding a ring"])
def test_a_registration_comes_back_from_json_as_it_was(held: Stamp | None) -> None:
    made = registration("localhost:7001", held=held)
    assert Registration.from_json(made.to_json()) == made
    assert made.address == "localhost:7001"
    assert made.bridge_address == "localhost:17001"


def test_fields_of_a_newer_release_are_ignored() -> None:
    made = registration("localhost:7001", held=HELD)
    plain = json.loads(made.to_json()) | {"rack": "b7"}
    assert Registration.from_json(json.dumps(plain).encode()) == made


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("id", "", "id of a node must be host:port"),
        ("port", "7001", "port of localhost:7001 must be a whole number"),
        ("incarnation", None, "incarnation of localhost:7001 must be 16 hex digits"),
        ("host", "x" * 256, "host of localhost:7001 must be a host name"),
        ("held", [], "held of the registration must be a JSON object"),
        ("held", {}, "held of the registration lacks the field 'cluster_id'"),
        ("held", HELD._asdict() | {"epoch": 0}, "epoch of the ring that localhost:7001 holds must be a whole number"),
        ("held", HELD._asdict() | {"nonce": 0}, "nonce of the ring that localhost:7001 holds must be 16 hex digits"),
    ],
)
def test_a_malformed_field_is_named_and_the_registration_refused(field: str, value: Any, message: str) -> None:
    plain = json.loads(registration("localhost:7001").to_json()) | {field: value}
    with pytest.raises(RingError, match=message):
        Registration.from_json(json.dumps(plain).encode())


def test_a_missing_field_is_named() -> None:
    plain = json.loads(registration("localhost:7001").to_json())
    del plain["data_id"]
    with pytest.raises(RingError, match="the registration lacks the field 'data_id'"):
        Registration.from_json(json.dumps(plain).encode())
