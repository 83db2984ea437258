"""docs/migrating.md is true: its commands run, its names and defaults are ours, none is left out.

What the other systems have is listed here once more, from their code, so that a row cannot be
forgotten. Whether they still have it cannot be tested here.
"""

import argparse
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dedup_assets.cli import _parser
from dedup_assets.settings import FIELDS
from dedup_assets.store import layout, schemas
from dedup_assets.store.sizes import parse_bytes
from dedup_assets_tests.assets.helpers import clip_ids, near_duplicates, write_part
from dedup_assets_tests.command.conftest import Call
from dedup_assets_tests.command.helpers import ROOT

pytestmark = pytest.mark.slow

TEXT = (ROOT / "docs" / "migrating.md").read_text()

COSMOS_CURATE = """
    input-embeddings-path output-path n-clusters max-iter random-state eps-to-extract
    eps-thresholds sim-metric which-to-keep files-per-partition input-s3-profile-name
    output-s3-profile-name execution-mode limit verbose model-weights-path perf-profile
    profile-tracing profile-tracing-sampling profile-tracing-otlp-endpoint profile-cpu
    profile-memory profile-gpu profile-cpu-exclude profile-memory-exclude profile-gpu-exclude
"""
WORKFLOW = """
    input_path output_path n_clusters cache_path id_field embedding_field embedding_dim
    metadata_fields input_filetype input_file_extensions max_iter tol random_state init n_init
    oversampling_factor max_samples_per_batch fit_data_fraction distance_metric which_to_keep
    ranking_strategy pairwise_batch_size eps _duplicates_num_row_groups_hint read_kwargs
    cache_kwargs write_kwargs clear_output verbose
"""
STAGES = {
    "KMeansStage": """
        n_clusters id_field embedding_field input_path output_path metadata_fields verbose
        embedding_dim input_filetype input_file_extensions read_kwargs write_kwargs max_iter tol
        random_state init n_init oversampling_factor max_samples_per_batch fit_data_fraction
        cache_path
    """,
    "PairwiseStage": """
        id_field embedding_field input_path output_path ranking_strategy embedding_dim
        pairwise_batch_size verbose read_kwargs write_kwargs which_to_keep sim_metric random_seed
    """,
    "IdentifyDuplicatesStage": """
        output_path eps _num_row_groups_hint verbose read_kwargs write_kwargs
    """,
    "RankingStrategy": "metadata_cols ascending strategy random_seed",
}
BEFORE_1_0 = """
    cache_dir profile_dir num_files id_col_name id_col_type input_column embeddings_save_loc
    embedding_model_name_or_path embedding_batch_size embedding_max_mem_gb
    embedding_pooling_strategy embedding_column write_embeddings_to_disk write_to_filename
    clustering_save_loc n_clusters seed random_state max_iter kmeans_with_cos_dist
    clustering_input_partition_size which_to_keep sim_metric largest_cluster_size_to_process
    batched_cosine_similarity eps_thresholds eps_to_extract
"""


@dataclass(frozen=True)
class Row:
    """One row of a table.

    Attributes:
        section: the heading above it.
        columns: its cells by the heading of the column.
    """

    section: str
    columns: dict[str, str]

    @property
    def theirs(self) -> list[str]:
        return code(next(iter(self.columns.values())))

    @property
    def here(self) -> str:
        return next((v for k, v in self.columns.items() if k.startswith("here")), "")


def code(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def rows() -> Iterator[Row]:
    section, header = "", None
    for line in TEXT.splitlines():
        if line.startswith("#"):
            section = line.lstrip("# ")
        if not line.startswith("|"):
            header = None
            continue
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if header is None:
            header = cells
        elif not set(line) <= set("|-"):
            yield Row(section, dict(zip(header, cells, strict=True)))


ROWS = list(rows())


def of(section: str, first_column: str) -> list[Row]:
    return [r for r in ROWS if r.section == section and first_column in r.columns]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, flags=re.DOTALL)


def flags() -> dict[str, Any]:
    parser = _parser()
    commands = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    return {option: a for a in commands.choices["run"]._actions for option in a.option_strings}


@pytest.mark.parametrize(
    ("section", "column", "listed"),
    [
        ("From cosmos-curate's `dedup`", "flag there", COSMOS_CURATE),
        ("SemanticDeduplicationWorkflow", "parameter there", WORKFLOW),
        ("From NeMo Curator before 1.0", "name there", BEFORE_1_0),
    ],
)
def test_each_parameter_of_the_other_system_has_one_row(section: str, column: str, listed: str):
    found = [name.removeprefix("--") for row in of(section, column) for name in row.theirs]
    assert sorted(found) == sorted(listed.split())


def test_each_parameter_of_the_stages_of_nemo_curator_has_one_row():
    found: dict[str, list[str]] = {}
    for row in of("Its stages", "parameter there"):
        found.setdefault(row.columns["stage"], []).extend(row.theirs)
    assert {stage: sorted(names) for stage, names in found.items()} == {
        stage: sorted(names.split()) for stage, names in STAGES.items()
    }
    workflow = of("SemanticDeduplicationWorkflow", "parameter there")
    above = {name for row in workflow for name in row.theirs}
    for row in of("Its stages", "parameter there"):
        if row.here == "as above":
            assert {n.replace("_num_row", "_duplicates_num_row") for n in row.theirs} <= above


def test_each_place_is_ours_or_says_why_there_is_none():
    paths = {
        layout.CENTROIDS,
        layout.HISTOGRAM,
        layout.fragment("{i}", "{sha}"),  # type: ignore[arg-type]
        layout.scores("{i}"),  # type: ignore[arg-type]
        layout.unique_ids_part("{eps}", "{i}"),  # type: ignore[arg-type]
        layout.summary("{eps}"),
        layout.rejected("{sha}"),
        layout.shard_index("{eps}"),
    }
    paths |= {layout.LAYOUTS["nemo"].on_disk(path) for path in paths}
    columns = {*schemas.DESCRIPTIONS, "kept", "removed", "total", "rejected"}
    columns |= {spelled.cluster_column for spelled in layout.LAYOUTS.values()}
    known = {*flags(), *paths, *columns, *FIELDS}
    for row in ROWS:
        if row.here == "as above" or "column" in row.columns:
            continue
        reason = row.here.partition("not here: ")[2]
        assert reason or code(row.here), row
        for name in code(row.here):
            examples = {"ce1_embd_parquet/", "clips/", "auto", ".parquet"}
            assert name in known | examples, (name, row)
    assert paths <= set(re.findall(r"`([a-z_]+/[^`]*)`", TEXT))


def test_each_default_of_ours_is_the_one_of_the_setting():
    checked = 0
    for row in ROWS:
        stated = row.columns.get("default here")
        if not stated:
            continue
        names = [name for name in code(row.here) if name.startswith("--")]
        if names == ["--verbose"]:
            assert stated == "off"
            continue
        defaults = set()
        for name in names:
            field = FIELDS[name.removeprefix("--").replace("-", "_")]
            default = field.get_default(call_default_factory=True)
            if field.is_required() or name == "--input-embeddings-path":  # or videos
                defaults.add("required")
            elif default in (None, []):
                defaults.add("none")
            else:
                defaults.add(default)
        text: Any = stated
        if names == ["--memory-budget"]:
            text = parse_bytes(stated)
        elif next(iter(defaults)) != text and re.fullmatch(r"[\d.]+", stated):
            text = float(stated)
        assert text in defaults, (row, defaults)
        checked += 1
    assert checked > 40


def test_types_of_the_columns_are_those_that_the_reader_tests_see():
    listed = {name for row in of("Reading the output", "column") for name in row.theirs}
    fragment = schemas.fragment(schemas.pa.string(), schemas.pa.schema([]))
    assert listed == {
        *fragment.names,
        *schemas.pairs(schemas.pa.string()).names,
        *(spelled.cluster_column for spelled in layout.LAYOUTS.values()),
    }


def test_commands_and_python_of_the_page_run(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    vectors = near_duplicates(rows=400)
    quality = [float(q) for q in np.random.default_rng(1).integers(0, 9, 400)]
    write_part(tmp_path / "embeddings", vectors, clip_ids(400), quality=quality)
    commands = [
        shlex.split(line)
        for block in blocks("sh")
        for line in block.replace("\\\n", "").strip().splitlines()
    ]
    assert len(commands) == 5
    for program, *arguments in commands:
        assert program == "dedup-assets"
        outcome = call(*arguments)
        assert outcome.code == 0, (arguments, outcome.err)
    (python,) = blocks("python")
    names: dict[str, Any] = {}
    exec(compile(python, "migrating.md", "exec"), names)
    assert len(names["pairs"]) == 400
    assert 0 < len(names["to_remove"]) < 400
    assert list(names["duplicates"].columns) == ["id"]
    assert set(names["duplicates"]["id"]) <= set(names["pairs"]["id"])
    for place in re.findall(r'="(nemo/[^"]+)"', TEXT):
        assert (tmp_path / place).is_dir(), place
