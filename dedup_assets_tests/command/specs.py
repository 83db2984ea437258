"""Job specs that are accepted, and some that are refused."""

from typing import Any

PATHS = {"input_embeddings_path": "in", "output_path": "out"}


def job(pipeline: str = "semantic-dedup", **args: Any) -> dict[str, Any]:
    """A spec of four clusters with paths, unless said otherwise."""
    clusters = {} if {"n_clusters", "num_clusters"} & args.keys() else {"n_clusters": 4}
    return {"pipeline": pipeline, "args": {**PATHS, **clusters, **args}}


ACCEPTED: dict[str, dict[str, Any]] = {
    "as documented": job(n_clusters=4, max_iter=100, eps_to_extract=0.01),
    "the other pipeline": job("dedup"),
    "documented alias": job(num_clusters=4),
    "texts of flags": job(
        n_clusters="4", max_iter="7", tol="1e-3", eps_to_extract="0.05", missed_limit="0.5"
    ),
    "list": job(eps_thresholds=[0.1, "0.01"], rank_by=["a:asc", "b:desc"], metadata_fields=["a"]),
    "list as text": job(eps_thresholds="0.1,0.01", rank_by="a:asc,b:desc", metadata_fields="a,b"),
    "list of one number": job(eps_thresholds=0.1),
    "empty list": job(eps_thresholds=[]),
    "size as text": job(memory_budget="512MiB"),
    "size as number": job(memory_budget=1 << 30),
    "stop after the histogram": job(eps_to_extract=None),
    "null for what is not given": job(max_iter=None, clips_path=None, time_budget=None, refit=None),
    "chosen clusters": job(n_clusters="auto", time_budget="1h30m", refit=True),
    "chosen clusters, seconds": job(num_clusters="auto", time_budget=90),
    "switches": job(refit=True, replace_shards=True, verbose=False, allow_links=True),
    "odd paths": job(input_embeddings_path="a::b", output_path="a\nb", clips_path="{{ c }}?%"),
    "S3": job(
        input_embeddings_path="s3://bucket/in",
        output_path="s3://bucket/out",
        output_zip="s3://bucket/out.zip",
        output_s3_profile_name="writer",
        output_s3_endpoint_url="https://store:9000",
    ),
    "ZIP": {
        "pipeline": "semantic-dedup",
        "args": {"input_zip": "in.zip", "output_path": "out", "n_clusters": 1},
    },
}

REFUSED: dict[str, tuple[Any, list[str]]] = {
    "unknown key": (
        job(n_cluster=4),
        ["unknown key 'n_cluster' in args, did you mean n_clusters?"],
    ),
    "unknown key like none": (job(colour="red"), ["unknown key 'colour' in args"]),
    "unknown key at the top": (
        {**job(), "arg": {}},
        ["unknown key 'arg', did you mean args?"],
    ),
    "no object": ([job()], ["must be a JSON object with pipeline and args, got a list"]),
    "null": (None, ["must be a JSON object", "got null"]),
    "wrong pipeline": (
        job("split"),
        ['pipeline must be "dedup" or "semantic-dedup", got "split"'],
    ),
    "pipeline a list": (job(["dedup"]), ["pipeline must be", 'got ["dedup"]']),  # type: ignore[arg-type]
    "no pipeline": ({"args": job()["args"]}, ["pipeline must be", "got nothing"]),
    "no args": ({"pipeline": "dedup"}, ["args must be a JSON object of settings, got nothing"]),
    "args a list": ({"pipeline": "dedup", "args": [4]}, ["args must be", "got a list"]),
    "alias and name": (
        job(n_clusters=4, num_clusters=4),
        ["'n_clusters' and 'num_clusters' in args are the same; give one of them"],
    ),
    "no clusters": ({"pipeline": "dedup", "args": PATHS}, ["args must have n_clusters"]),
    "null clusters": (job(n_clusters=None), ["args must have n_clusters"]),
    "clusters below 1": (job(num_clusters=0), ["args.num_clusters", "greater than or equal to 1"]),
    "clusters no number": (job(n_clusters="many"), ["args.n_clusters", "got 'many'"]),
    "true is no number": (job(max_iter=True), ["args.max_iter must not be true or false"]),
    "text is no switch": (job(refit="yes"), ['args.refit must be true or false, got "yes"']),
    "number is no switch": (
        job(replace_shards=1),
        ["args.replace_shards must be true or false, got 1"],
    ),
    "eps too large": (job(eps_to_extract=1.5), ["args.eps_to_extract", "got 1.5"]),
    "eps too fine": (job(eps_thresholds=["0.000001"]), ["args.eps_thresholds", "5 decimals"]),
    "misspelt value": (job(which_to_keep="hrad"), ["args.which_to_keep", "got 'hrad'"]),
    "object as value": (job(max_iter={"a": 1}), ["args.max_iter", "valid integer"]),
    "fraction": (job(max_iter=1.5), ["args.max_iter", "fractional part"]),
    "below the limit": (job(max_iter=0), ["args.max_iter", "greater than or equal to 1"]),
    "rank without direction": (job(rank_by=["a"]), ["args.rank_by", "COLUMN:asc"]),
    "other protocol": (job(output_path="gs://bucket/out"), ["args.output_path", "s3://"]),
    "URL of a file": (job(output_path="file:///out"), ["args.output_path", "s3://"]),
    "URL after a new line": (job(output_path="a\nb://c"), ["args.output_path", "s3://"]),
    "text is no switch of settings": (job(allow_links="yes"), ["args.allow_links", '"yes"']),
    "no bucket": (job(output_path="s3:///out"), ["args.output_path", "s3://bucket/prefix"]),
    "bucket of odd letters": (job(output_path="s3://b!d/out"), ["args.output_path", "s3://b!d"]),
    "NUL in a path": (job(output_path="o\0ut"), ["args.output_path", "NUL", r"got 'o\x00ut'"]),
    "NUL in the path of a ZIP": (job(output_zip="o\0.zip"), ["args.output_zip: must hold no NUL"]),
    "ZIP without its suffix": (job(output_zip="out"), ["args.output_zip: must end in .zip"]),
    "ZIP that is a bucket": (job(output_zip="s3://out.zip"), ["args.output_zip", "bucket/key"]),
    "ZIP no text": (job(output_zip=7), ["args.output_zip must be text, got 7"]),
    "time no time": (
        job(n_clusters="auto", time_budget="soon"),
        ["args.time_budget: a time must look like", "got 'soon'"],
    ),
    "time without a choice": (
        job(time_budget="10m"),
        ["args.time_budget goes with args.n_clusters auto"],
    ),
    "secrets": (
        job(output_storage_options={"secret": "hidden-value"}),
        [
            "'output_storage_options' is not a key of a spec",
            "environment",
            "output_s3_profile_name",
        ],
    ),
    "password in a URL": (
        job(input_s3_endpoint_url="https://me:hidden-value@store"),
        ["args.input_s3_endpoint_url: must hold no user name or password"],
    ),
    "a cluster": (
        job(engine="ray", address="ray://evil:1"),
        ["'address' is not a key of a spec", "pass it as --address"],
    ),
    "of YAML only": (job(schedule="0 3 * * *"), ["unknown key 'schedule' in args"]),
}
