"""Settings of the videos that clips and embeddings are made from."""

from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from dedup_assets.settings.group import Group
from dedup_assets.settings.places import local_or_s3
from dedup_assets.store.fingerprints import fingerprint


class Videos(Group):
    """Videos to split into clips and to embed."""

    video_dir: str | None = Field(
        default=None,
        min_length=1,
        description="Folder of videos, searched with its folders; local or s3://bucket/prefix.",
        examples=["s3://bucket/videos"],
    )
    output_clip_path: str | None = Field(
        default=None,
        min_length=1,
        description="Folder that clips and their embeddings go to; by default split/ of "
        "output_path.",
        examples=["s3://bucket/clips"],
    )
    splitting_algorithm: Literal["fixed_stride"] = Field(
        default="fixed_stride", description="How videos are cut."
    )
    fixed_stride_split_duration: float = Field(
        default=10.0, gt=0, description="Seconds of a clip.", examples=[5.0]
    )
    fixed_stride_split_stride: float | None = Field(
        default=None,
        gt=0,
        description="Seconds from the start of a clip to that of the next; by default the length "
        "of a clip.",
        examples=[5.0],
    )
    fixed_stride_min_clip_length_s: float = Field(
        default=2.0,
        ge=0,
        description="Seconds that the last piece of a video must have to be kept.",
        examples=[1.0],
    )
    clip_id_recipe: Literal["seconds", "frames"] = Field(
        default="seconds",
        description="How ids are made from the path of a video: from the seconds of a clip, as "
        "cosmos-curate's fixed stride does, or from its frames, as NeMo Curator does.",
    )
    transcode_encoder: str = Field(
        default="libx264",
        min_length=1,
        description="Encoder of the clips: one of PyAV's, or of an ffmpeg on the PATH.",
        examples=["h264_nvenc"],
    )
    transcode_bitrate: int = Field(
        default=4_000_000, ge=1, description="Bits per second of a clip's video."
    )
    copy_video: bool = Field(
        default=False,
        description="Cut at key frames, without encoding: quick, but borders are late by up to a "
        "group of pictures.",
    )
    drop_audio: bool = Field(default=False, description="Leave sound out of the clips.")
    embedding_algorithm: str = Field(
        default="perceptual",
        description="perceptual, which needs no weights; or transformers, cosmos-embed1-224p, "
        "-336p, -448p or internvideo2, whose model is in model_dir.",
        examples=["cosmos-embed1-336p"],
    )
    model_dir: str | None = Field(
        default=None,
        description="Local folder of the model, as on Hugging Face.",
        examples=["/models/Cosmos-Embed1-336p"],
    )
    trust_remote_code: bool = Field(
        default=False,
        description="Run the Python files of model_dir, with all your rights. Some models need it.",
    )
    upload_clips: bool = Field(
        default=True,
        description="Whether clips are written, or their metadata and embeddings alone.",
    )

    @field_validator("video_dir", "output_clip_path")
    @classmethod
    def _path(cls, value: str | None) -> str | None:
        return None if value is None else local_or_s3(value)

    @field_validator("splitting_algorithm", mode="before")
    @classmethod
    def _as_either_spells_it(cls, value: Any) -> Any:
        return "fixed_stride" if value == "fixed-stride" else value

    @model_validator(mode="after")
    def _some_piece_is_long_enough(self) -> Self:
        shortest, length = self.fixed_stride_min_clip_length_s, self.fixed_stride_split_duration
        if shortest > length:
            raise ValueError(
                f"fixed_stride_min_clip_length_s ({shortest:g}) must not be above "
                f"fixed_stride_split_duration ({length:g}): no clip would be long enough"
            )
        return self

    @property
    def how(self) -> str:
        """A digest of the settings that decide what is made of a video."""
        aside = {"video_dir", "output_clip_path", "trust_remote_code"}
        return fingerprint(self.model_dump(mode="json", exclude=aside))
