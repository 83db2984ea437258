"""How the datasets of a code location reach S3, as a Dagster resource.

Imported only where a dataset is on S3: boto3 takes nearly as long to import as Dagster.
"""

from typing import Any

import dagster as dg
from dagster_aws.s3 import S3Resource

from dedup_assets.errors import SettingsError
from dedup_assets.settings import Settings
from dedup_assets.store.access import check_endpoint

_CREDENTIALS = {"key", "secret", "token", "anon"}


class StoreResource(dg.ConfigurableResource[None]):
    """Profile, keys, region and endpoint of S3, for the input and for the output.

    Paths are a dataset's own. What its settings say (profile, endpoint, storage options) comes
    before what is here. Give secrets as `dg.EnvVar`: the UI shows the values of resources.
    """

    input: S3Resource
    output: S3Resource

    def applied_to(self, settings: Settings) -> Settings:
        """The settings of a dataset, with what they leave open about S3 taken from here.

        Raises:
            SettingsError: an endpoint breaks a rule.
        """
        values, update = settings.values(), dict[str, Any]()
        for side, s3 in (("input", self.input), ("output", self.output)):
            profile, endpoint = f"{side}_s3_profile_name", f"{side}_s3_endpoint_url"
            options = f"{side}_storage_options"
            named, said = values[profile], values[options]
            # As a whole: a key of one with the secret of the other would be nobody's.
            keys = not named and not _CREDENTIALS & said.keys()
            update[profile] = s3.profile_name if keys else named
            update[endpoint] = values[endpoint] or _endpoint(s3)
            update[options] = _joined(_options(s3, keys=keys), said)
        return settings.replace(**update)


def _endpoint(s3: S3Resource) -> str | None:
    try:
        return None if s3.endpoint_url is None else check_endpoint(s3.endpoint_url)
    except ValueError as error:
        raise SettingsError(f"endpoint_url of the store resource: {error}") from None


def _options(s3: S3Resource, *, keys: bool) -> dict[str, Any]:
    """Arguments of s3fs that say the same; without ``keys`` where the settings name credentials."""
    client = {"region_name": s3.region_name, "verify": s3.verify}
    found = {
        "key": s3.aws_access_key_id if keys else None,
        "secret": s3.aws_secret_access_key if keys else None,
        "token": s3.aws_session_token if keys else None,
        "anon": (s3.use_unsigned_session or None) if keys else None,
        "use_ssl": None if s3.use_ssl else False,
        "client_kwargs": {k: v for k, v in client.items() if v is not None} or None,
    }
    return {name: value for name, value in found.items() if value is not None}


def _joined(found: dict[str, Any], said: dict[str, Any]) -> dict[str, Any]:
    """The options of a resource below those of the settings, arguments of the client one by one."""
    ours, theirs = said.get("client_kwargs"), found.get("client_kwargs")
    client = {"client_kwargs": theirs | ours} if theirs and isinstance(ours, dict) else {}
    return found | said | client


def own_store(settings: Settings) -> StoreResource:
    """The resource of a dataset that names none of the user's."""
    storage = settings.storage
    return StoreResource(
        input=S3Resource(
            profile_name=storage.input_s3_profile_name, endpoint_url=storage.input_s3_endpoint_url
        ),
        output=S3Resource(
            profile_name=storage.output_s3_profile_name, endpoint_url=storage.output_s3_endpoint_url
        ),
    )
