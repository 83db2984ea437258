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
    splitting_algorithm: Literal["fixed_stride", "transnetv2", "content"] = Field(
        default="fixed_stride",
        description="How videos are cut: every few seconds; or between scenes, found by the "
        "network TransNetV2 in splitting_model_dir or, without weights, by PySceneDetect's content "
        "detector.",
        examples=["content"],
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
    splitting_model_dir: str | None = Field(
        default=None,
        description="Local folder with transnetv2.onnx, for transnetv2.",
        examples=["/models/transnetv2"],
    )
    transnetv2_threshold: float = Field(
        default=0.4,
        ge=0,
        lt=1,
        description="Probability of a transition above which a frame belongs to no scene.",
        examples=[0.5],
    )
    content_threshold: float = Field(
        default=27.0,
        gt=0,
        le=255,
        description="Mean change from a frame to the next, of 255, that is a cut for content.",
        examples=[30.0],
    )
    transnetv2_min_length_s: float = Field(
        default=2.0,
        ge=0,
        description="Seconds that a clip of a scene must have to be kept; for content too.",
        examples=[1.0],
    )
    transnetv2_min_length_frames: int = Field(
        default=48,
        ge=0,
        description="Frames that a clip of a scene must have to be kept; for content too.",
        examples=[0],
    )
    transnetv2_max_length_s: float = Field(
        default=60.0,
        gt=0,
        description="Seconds of a scene that become one clip at most; for content too.",
        examples=[10.0],
    )
    transnetv2_max_length_mode: Literal["stride", "truncate"] = Field(
        default="stride",
        description="What becomes of a longer scene: clip after clip, or one clip of its start; "
        "for content too.",
    )
    transnetv2_crop_s: float = Field(
        default=0.5,
        ge=0,
        description="Seconds left out at either end of a clip of a scene; for content too.",
        examples=[0.0],
    )
    clip_id_recipe: Literal["seconds", "frames"] = Field(
        default="seconds",
        description="How ids are made from the path of a video: from the seconds of a clip, as "
        "cosmos-curate's fixed stride does, or from its frames, as NeMo Curator does. Those of "
        "scenes are made from frames, as both do.",
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

    @model_validator(mode="after")
    def _some_scene_is_long_enough(self) -> Self:
        shortest, longest = self.transnetv2_min_length_s, self.transnetv2_max_length_s
        crop = self.transnetv2_crop_s
        if self.splitting_algorithm != "fixed_stride" and shortest > longest - 2 * crop:
            raise ValueError(
                f"transnetv2_min_length_s ({shortest:g}) must not be above transnetv2_max_length_s "
                f"({longest:g}) less transnetv2_crop_s ({crop:g}) at either end: no clip would be "
                "long enough"
            )
        return self

    @property
    def how(self) -> str:
        """A digest of the settings that decide what is made of a video."""
        aside = {"video_dir", "output_clip_path", "trust_remote_code"}
        aside |= {name for name in type(self).model_fields if not self._counts(name)}
        return fingerprint(self.model_dump(mode="json", exclude=aside))

    def _counts(self, name: str) -> bool:
        """Whether a setting is of no other splitting algorithm than the chosen one."""
        chosen = self.splitting_algorithm
        if name.startswith("fixed_stride_"):
            return chosen == "fixed_stride"
        if name in ("splitting_model_dir", "transnetv2_threshold"):
            return chosen == "transnetv2"
        if name == "content_threshold":
            return chosen == "content"
        return chosen != "fixed_stride" or not name.startswith("transnetv2_")

    @property
    def embedded_by(self) -> str:
        """A digest of the settings that decide the embedding of a clip."""
        return fingerprint(self.embedding_algorithm, self.model_dir)
