"""The component YAML of some settings: of a run, or as ``dg scaffold defs`` is told."""

import re
from typing import Any, Self

import dagster as dg
import yaml
from pydantic import BaseModel, Field, model_validator

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

    @model_validator(mode="after")
    def _make_settings(self) -> Self:
        Settings.of(**self.values())  # before Dagster makes a folder that would stay
        return self

    def values(self) -> dict[str, Any]:
        """The settings that were given, by name."""
        given = {
            "input_embeddings_path": self.input,
            "clips_path": self.clips,
            "n_clusters": self.n_clusters,
            "eps_to_extract": self.eps,
            "output_path": self.output,
        }
        return {name: value for name, value in given.items() if value is not None}


class Scaffolder(dg.Scaffolder[ScaffoldParams]):
    """Writes a ``defs.yaml`` or ``component.py`` that loads; its dataset is named as its folder."""

    @classmethod
    def get_scaffold_params(cls) -> type[ScaffoldParams]:
        return ScaffoldParams

    def scaffold(self, request: dg.ScaffoldRequest[ScaffoldParams]) -> None:
        """Write the component, or add it to the YAML that is there."""
        folder = request.target_path.parent if request.append else request.target_path
        dataset = re.sub(r"[^A-Za-z0-9_]|^(?=[0-9])", "_", folder.name)
        values = {"dataset": dataset, **request.params.values()}
        if request.scaffold_format == "python":
            (folder / "component.py").write_text(_component_py(values))
            return
        document = component_yaml(Settings.of(**values))
        if request.append:
            with request.target_path.open("a") as file:
                file.write(f"---\n{document}")
        else:
            (folder / "defs.yaml").write_text(document)


def _component_py(values: dict[str, Any]) -> str:
    given = "".join(f"        {name}={value!r},\n" for name, value in values.items())
    return (
        "import dagster as dg\n\nfrom dedup_assets import SemanticDedup\n\n\n"
        "@dg.component_instance\n"
        "def load(context: dg.ComponentLoadContext) -> SemanticDedup:\n"
        f"    return SemanticDedup.of(\n{given}    )\n"
    )


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
