"""Cut a video into clips and sample their frames, decoding each frame once.

Scenes are found before, in a pass of its own over the same frames.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from dedup_assets.video.detectors import SceneCuts
from dedup_assets.video.encoders import DEFAULT_ENCODER
from dedup_assets.video.sampling import Sampling
from dedup_assets.video.spans import FixedStride, Span

#: Begins the name of a folder beside a clip, of a command that encodes it.
SCRATCH = ".ffmpeg-"


@dataclass(frozen=True)
class Cutting:
    """How videos are cut.

    Re-encoded clips hold exactly the frames whose presentation time, counted from the video's
    first frame, lies in [start, end) of their span; they keep the source's time stamps and hence a
    variable rate, stand upright, and have even sizes (an odd side loses one row or column).
    """

    splitting: FixedStride | SceneCuts
    encoder: str = DEFAULT_ENCODER
    bit_rate: int = 4_000_000
    """The aim for the video, in bits per second."""
    copy: bool = False
    """Copy the stream instead of encoding it. A clip then begins and ends at the first key frame at
    or after its border, so it is up to one group of pictures late at either end; a span without a
    key frame gives no clip. With open groups of pictures, the few frames shown before a border's
    key frame but stored after it are lost. Rotation stays a flag, and odd sizes stay odd. Damage
    inside of frames goes unseen unless `sampling` has them decoded."""
    audio: bool = True
    """Keep the first audio stream, as both peers do: copied, or made AAC where mp4 players would
    not expect the codec. A packet of sound belongs to the clip in which it begins."""
    sampling: Sampling | None = None
    prepare: Callable[[NDArray[np.uint8]], NDArray[Any]] | None = None
    """Turns a clip's sampled frames, RGB of shape (count, height, width, 3), into what
    `Clip.prepared` is to be. Picklable, that is, a function of a module, for use in a worker."""
    threads: int = 1
    """Of the decoder and of the encoder each. Bytes repeat for equal numbers."""

    def __post_init__(self) -> None:
        for name in ("bit_rate", "threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} should be >= 1.")
        if self.prepare is not None and self.sampling is None:
            raise ValueError("prepare needs sampling, which says what frames it gets.")


@dataclass(frozen=True)
class VideoFacts:
    """A source video. Width and height are those of its upright picture."""

    duration_s: float
    """As the peers count it; `ids.nominal_duration_s`."""
    width: int
    height: int
    fps: float
    """The average rate."""
    frames: int
    codec: str
    bit_rate: int
    """Of the video stream, or of the file where the stream states none; bits per second."""
    rotation: int
    """Degrees counterclockwise that a player must turn the stored picture: 0, 90, 180 or 270."""
    audio: bool
    bytes: int


@dataclass(frozen=True)
class Clip:
    """A clip as written; `bit_rate` in bits per second of its video, `bytes` of the file."""

    file: Path
    span: Span
    """What the splitting asked for; ids follow from it."""
    start_frame: int
    """The first frame in the source, counted from 0 in order of presentation."""
    end_frame: int
    """One past the last."""
    width: int
    height: int
    fps: float
    frames: int
    duration_s: float
    codec: str
    bit_rate: int
    bytes: int

    @property
    def prepared(self) -> NDArray[Any]:
        """What `Cutting.prepare` returned, read from its file beside the clip's.

        Without `prepare` the sampled frames, RGB uint8 of shape (count, height, width, 3).
        FileNotFoundError without sampling.
        """
        read: NDArray[Any] = np.load(prepared_file(self.file))
        return read


def prepared_file(clip: Path) -> Path:
    return clip.with_suffix(".npy")


class Prepared(Sequence[NDArray[Any]]):
    """`Clip.prepared` of clips, each read when it is asked for."""

    def __init__(self, clips: Sequence[Clip]) -> None:
        self._clips = clips

    def __len__(self) -> int:
        return len(self._clips)

    @overload
    def __getitem__(self, index: int) -> NDArray[Any]: ...
    @overload
    def __getitem__(self, index: slice) -> "Prepared": ...
    def __getitem__(self, index: int | slice) -> "NDArray[Any] | Prepared":
        if isinstance(index, slice):
            return Prepared(self._clips[index])
        return self._clips[index].prepared


@dataclass(frozen=True)
class SplitVideo:
    """All clips of a video, by start."""

    source: VideoFacts
    clips: tuple[Clip, ...]


def split_video(
    path: Path, folder: Path, cutting: Cutting, *, on_frame: Callable[[], None] | None = None
) -> SplitVideo:
    """Write the clips of a video as `folder/{n:06d}.mp4` and say what they are.

    What is prepared of a clip lies beside it, in a file that ends in .npy.

    A video that is damaged fails as a whole: ClipError, of one line that names the file and the
    reason, and none of its clips is left. `on_frame` is called after each packet or frame. Memory,
    whatever the length of the video: the sampled frames of the clips that are open at a time, and
    8 bytes for each frame's time.
    """
    from dedup_assets.video.cutter import Cutter

    folder.mkdir(parents=True, exist_ok=True)
    return Cutter(path, folder, cutting, on_frame or _ignore).split()


def _ignore() -> None:
    """Nobody watches the progress."""
