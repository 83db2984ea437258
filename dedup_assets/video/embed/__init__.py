"""Clips to unit vectors: frames in, one row per clip out.

| kind | weights | frames | dims | folder |
|---|---|---|---|---|
| `perceptual` | none | 12, spread evenly | 315 | `perceptual_embd_parquet` |
| `transformers` | `model_dir` | 8 at 2 fps, or what a video model was made for | the model's | `{name of model_dir}_embd_parquet` |
| `cosmos-embed1` | `model_dir` | 8 at 2 fps | 256 (224p), 768 (336p, 448p) | `ce1_embd_{resolution}_parquet` |
| `internvideo2` | `model_dir` | 4 at 2 fps | 512 | `iv2_embd_parquet` |

Nothing is downloaded, no pickle is read, and Python files of a model's folder run only with
`trust_remote_code`. torch and transformers (extra `embed`) are imported when a model is made, so
that a process that only decodes and prepares frames does without them.
"""  # noqa: E501

from dedup_assets.video.embed.errors import EmbedError
from dedup_assets.video.embed.factory import KINDS, make_embedder, output_folder
from dedup_assets.video.embed.interface import Embedder

__all__ = ["KINDS", "EmbedError", "Embedder", "make_embedder", "output_folder"]
