"""The component YAML of some settings: of a run, or as ``dg scaffold defs`` is told."""

import re
from typing import Any

import dagster as dg
import yaml
from pydantic import BaseModel, Field

from dedup_assets.errors import SettingsError
from dedup_assets.settings import SECRET, Settings

TYPE = "dedup_assets.SemanticDedup"
_UNCHANGED = re.compile(r"[A-Za-z_/][A-Za-z0-9_/.:@ -]{0,199}")
_CONSTANTS = {"None", "True", "False"}


def component_yaml(settings: Settings) -> str:
    """A ``defs.yaml`` that Dagster loads back to these settings; storage options are left out."""
    changed = settings.model_dump(exclude_defaults=True, exclude={"storage": SECRET})
    attributes = {name: _escaped(value) for name, value in changed.items()}
    thresholds = settings.thresholds
    if thresholds.eps_thresholds:
        attributes["thresholds"]["eps_thresholds"] = [float(e) for e in thresholds.eps_thresholds]
    if thresholds.eps_to_extract is not None:
        attributes["thresholds"]["eps_to_extract"] = float(thresholds.eps_to_extract)
    document = {"type": TYPE, "attributes": {"dataset": settings.dataset, **attributes}}
    return yaml.safe_dump(document, sort_keys=False, width=1_000_000)


class ScaffoldParams(BaseModel):
    """What ``dg scaffold defs dedup_assets.SemanticDedup`` takes, beside the folder's name."""

    input: str = Field(description="Folder of the embeddings; local or s3://bucket/prefix.")
    output: str = Field(description="Folder that everything is written below, likewise.")
    n_clusters: int = Field(
        description="Clusters; dedup-assets suggest-clusters says how long a run takes by them."
    )
    clips: str | None = Field(default=None, description="Folder of the clips' media files.")
    eps: float | None = Field(default=None, description="eps to write the curated shards for.")


class Scaffolder(dg.Scaffolder[ScaffoldParams]):
    """Writes a ``defs.yaml`` that loads; the dataset is named as its folder."""

    @classmethod
    def get_scaffold_params(cls) -> type[ScaffoldParams]:
        return ScaffoldParams

    def scaffold(self, request: dg.ScaffoldRequest[ScaffoldParams]) -> None:
        """Write the YAML, or add it to the file that is there.

        Raises:
            SettingsError: it is asked for in Python.
            pydantic.ValidationError: a value breaks its rule.
        """
        if request.scaffold_format != "yaml":
            raise SettingsError(
                "dedup_assets.SemanticDedup is scaffolded as YAML; in Python, call "
                "dedup_assets.build_definitions(dedup_assets.SemanticDedup.of(...))"
            )
        params = request.params
        given = {
            "input_embeddings_path": params.input,
            "output_path": params.output,
            "n_clusters": params.n_clusters,
            "clips_path": params.clips,
            "eps_to_extract": params.eps,
        }
        folder = request.target_path.parent if request.append else request.target_path
        named = {"dataset": re.sub(r"[^A-Za-z0-9_]|^(?=[0-9])", "_", folder.name)}
        document = component_yaml(
            Settings.of(**named, **{k: v for k, v in given.items() if v is not None})
        )
        if request.append:
            with request.target_path.open("a") as file:
                file.write(f"---\n{document}")
        else:
            (request.target_path / "defs.yaml").write_text(document)


def _escaped(value: Any) -> Any:
    """A value with each text so written that Dagster's rendering gives the text again.

    Dagster renders a text as a Jinja template, then takes the result for a Python literal where it
    is one (`jinja2.nativetypes`). So what either might change is a template of a Python literal.
    """
    if isinstance(value, dict):
        return {name: _escaped(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_escaped(item) for item in value]
    if not isinstance(value, str) or not value:  # an empty text is not rendered
        return value
    if _UNCHANGED.fullmatch(value) and value.strip() not in _CONSTANTS:
        return value
    literal = ascii(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'{{{{ "{literal}" }}}}'
