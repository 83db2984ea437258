"""The JSON Schema of job specs says what the command says."""

import json
from typing import Any

import jsonschema
import pytest

from dedup_assets.command.arguments import YAML_ONLY
from dedup_assets.command.schema import DIALECT, spec_schema
from dedup_assets.settings import FIELDS
from dedup_assets_tests.command.conftest import Call
from dedup_assets_tests.command.specs import ACCEPTED, REFUSED


@pytest.fixture(scope="module")
def validator() -> Any:
    return jsonschema.Draft202012Validator(spec_schema())


def test_schema_that_is_printed_is_one_of_its_dialect(call: Call) -> None:
    outcome = call("spec", "--schema")
    assert outcome.code == 0
    schema = json.loads(outcome.out)
    assert schema == spec_schema()
    assert schema["$schema"] == DIALECT
    jsonschema.Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize("case", ACCEPTED)
def test_what_the_command_accepts_is_valid(validator: Any, case: str) -> None:
    validator.validate(ACCEPTED[case])


@pytest.mark.parametrize("case", REFUSED)
def test_what_the_command_refuses_is_invalid(validator: Any, case: str) -> None:
    assert not validator.is_valid(REFUSED[case][0])


def test_every_setting_is_described_and_its_default_is_valid() -> None:
    args = spec_schema()["properties"]["args"]["properties"]
    not_in_specs = YAML_ONLY | {"address", "trust_remote_code"}
    assert FIELDS.keys() - not_in_specs <= args.keys()
    assert not args.keys() & not_in_specs
    for name, schema in args.items():
        assert schema["description"], name
        if "default" in schema:
            jsonschema.Draft202012Validator(schema).validate(schema["default"])
    assert args["which_to_keep"]["anyOf"][0]["enum"] == ["hard", "easy", "soft", "random"]
    assert args["max_iter"]["default"] == 100
    assert args["eps_to_extract"]["default"] == 0.01


def test_without_schema_the_command_says_what_it_needs(call: Call) -> None:
    outcome = call("spec")
    assert outcome.code == 2
    assert "--schema" in outcome.err
