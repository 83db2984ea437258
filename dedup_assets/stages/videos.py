"""The videos of a dataset: what there is, and what their splitting has in common."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pyarrow as pa

from dedup_assets.engine import Common
from dedup_assets.errors import InputError, SettingsError, StaleError, shown
from dedup_assets.settings import Settings
from dedup_assets.settings.videos import Videos
from dedup_assets.store import processed
from dedup_assets.store.filesystem import Store, size_of
from dedup_assets.store.fingerprints import fingerprint
from dedup_assets.store.processed import Record, record_of
from dedup_assets.store.tables import read_info, read_table, write_table
from dedup_assets.video.content import ContentCuts
from dedup_assets.video.cut import Cutting
from dedup_assets.video.detectors import Detector, SceneCuts
from dedup_assets.video.embed import Embedder, make_embedder, output_folder
from dedup_assets.video.scenes import SceneRules
from dedup_assets.video.spans import FixedStride
from dedup_assets.video.transnet import TransNetV2

VERSION = 1
SUFFIXES = (".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpg", ".ts", ".webm", ".wmv")


@dataclass(frozen=True)
class Video:
    """A video: its path below the folder and as a whole, its bytes, and its record to be."""

    name: str
    url: str
    bytes: int
    record: Record


@dataclass(frozen=True)
class Listed:
    """The videos that there are, and how they are made into clips.

    Attributes:
        folder: path or URL of the folder.
        versions: of each video, by its path below the folder.
        how: digest of the settings that decide what is made of a video; ``model``: of those that
            decide its embeddings.
    """

    folder: str
    versions: dict[str, str]
    how: str
    model: str

    @cached_property
    def videos(self) -> list[Video]:
        """The videos by path."""
        found = []
        for name, version in sorted(self.versions.items()):
            url = f"{self.folder.rstrip('/')}/{name}"
            how = fingerprint(VERSION, self.how)
            record = record_of(url, version, how, self.model)
            found.append(Video(name, url, size_of(version), record))
        return found

    @property
    def bytes(self) -> int:
        return sum(video.bytes for video in self.videos)

    @cached_property
    def fingerprint(self) -> str:
        """What all clips are made from."""
        return fingerprint(VERSION, self.how, self.folder, sorted(self.versions.items()))


@dataclass(frozen=True)
class Splitting(Common):
    """Where the videos of a dataset are, what they become, and by what."""

    settings: Settings

    @property
    def videos(self) -> Videos:
        return self.settings.videos

    @cached_property
    def source(self) -> Store:
        """The videos."""
        assert self.videos.video_dir is not None
        links = self.settings.source.allow_links
        return Store(self.videos.video_dir, self.settings.storage.input_access, allow_links=links)

    @cached_property
    def store(self) -> Store:
        """Clips, what is known of them, and their embeddings."""
        return Store(self.settings.split_path, self.settings.storage.output_access)

    @property
    def _model(self) -> Path | None:
        return None if self.videos.model_dir is None else Path(self.videos.model_dir)

    @cached_property
    def folder(self) -> str:
        """Name of the folder of the embeddings."""
        return output_folder(self.videos.embedding_algorithm, model_dir=self._model)

    @cached_property
    def embedder(self) -> Embedder:
        """The model, loaded."""
        return make_embedder(
            self.videos.embedding_algorithm,
            model_dir=self._model,
            device=self.settings.compute.device,
            trust_remote_code=self.videos.trust_remote_code,
        )

    @cached_property
    def splitting(self) -> FixedStride | SceneCuts:
        """How clips are chosen, checked to have what it needs.

        Raises:
            SceneError: a package or the model of scene cuts is missing.
        """
        videos = self.videos
        if videos.splitting_algorithm == "fixed_stride":
            return FixedStride(
                videos.fixed_stride_split_duration,
                videos.fixed_stride_split_stride,
                videos.fixed_stride_min_clip_length_s,
            )
        rules = SceneRules(
            videos.transnetv2_min_length_s,
            videos.transnetv2_min_length_frames,
            videos.transnetv2_max_length_s,
            videos.transnetv2_max_length_mode,
            videos.transnetv2_crop_s,
        )
        detector: Detector = ContentCuts(videos.content_threshold)
        if videos.splitting_algorithm == "transnetv2":
            folder = videos.splitting_model_dir
            detector = TransNetV2(
                None if folder is None else Path(folder), videos.transnetv2_threshold
            )
        detector.check()
        return SceneCuts(detector, rules)

    @cached_property
    def cutting(self) -> Cutting:
        """How videos are cut, and what of each clip is prepared for the model."""
        videos, embedder = self.videos, self.embedder
        return Cutting(
            self.splitting,
            encoder=videos.transcode_encoder,
            bit_rate=videos.transcode_bitrate,
            copy=videos.copy_video,
            audio=not videos.drop_audio,
            sampling=embedder.sampling,
            prepare=embedder.prepare,
        )


def list_videos(common: Splitting) -> Listed:
    """List the folder of videos.

    Raises:
        InputError: there is no video, or one whose name is no text.
    """
    versions = {
        name: version
        for name, version in common.source.list_versions("").items()
        if name.lower().endswith(SUFFIXES)
    }
    if not versions:
        raise InputError(
            f"{common.source.url()} holds no video ({', '.join(SUFFIXES)}); set video_dir"
        )
    for name in versions:
        if name != name.encode(errors="replace").decode():
            raise InputError(
                f"{common.source.url()} holds {shown(name)}, whose name is not UTF-8; rename it"
            )
    return _listed(common, versions)


def _listed(common: Splitting, versions: dict[str, str]) -> Listed:
    videos = common.videos
    return Listed(common.source.url(), versions, videos.how, videos.embedded_by)


def write_list(common: Splitting, listed: Listed) -> None:
    """Write the list of videos that splitting goes by."""
    columns = {
        "video": [video.name for video in listed.videos],
        "bytes": [video.bytes for video in listed.videos],
        "version": [listed.versions[video.name] for video in listed.videos],
    }
    info = {"video_dir": common.source.url(), "dataset": common.settings.dataset}
    write_table(common.store, processed.VIDEOS, pa.table(columns, schema=processed.VIDEO), info)


def found_list(common: Splitting) -> Listed | None:
    """The list that was written last; None if there is none, or it is of another folder."""
    store, name = common.store, processed.VIDEOS
    if (read_info(store, name) or {}).get("video_dir") != common.source.url():
        return None
    table = read_table(store, name, ["video", "version"])
    versions = dict(zip(*(table[column].to_pylist() for column in table.column_names), strict=True))
    return _listed(common, versions)


def refuse_other_clips(common: Splitting) -> None:
    """Refuse a folder of clips of another dataset, which would be deleted.

    Raises:
        SettingsError: it is.
    """
    try:
        owner = (read_info(common.store, processed.VIDEOS) or {}).get("dataset")
    except StaleError:
        return  # not a table, and about to be written anew
    ours = common.settings.dataset
    if owner not in (None, ours):
        raise SettingsError(
            f"{common.store.url()} holds the clips of dataset {shown(owner)}, which those of "
            f"dataset {shown(ours)} would replace; choose another output_clip_path, or set dataset "
            f"to {shown(owner)}"
        )


def load_list(common: Splitting) -> Listed:
    """The list that was written last.

    Raises:
        StaleError: there is none, or it is of another folder.
    """
    listed = found_list(common)
    if listed is None:
        raise StaleError(
            f"{common.store.url(processed.VIDEOS)} is missing, or lists another folder than "
            f"{common.source.url()}; materialize videos"
        )
    return listed
