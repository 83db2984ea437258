"""Encoders of clips: those of PyAV's wheel in process, others through an `ffmpeg` on PATH."""

import shutil
import subprocess
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from dedup_assets.video.errors import ClipError

DEFAULT_ENCODER = "libx264"


@dataclass(frozen=True)
class Coding:
    """The format that an encoder writes, such as h264, and its options."""

    codec: str
    options: dict[str, str]


_NVENC = {"rc": "vbr", "tune": "hq", "bf": "0"}
#: Encoders that mp4 can hold; their options trade size for speed. No B-frames: with them the
#: decoding order of a variable frame rate leaves an mp4 with a wrong duration.
ENCODERS = {
    "libx264": Coding("h264", {"preset": "veryfast", "bf": "0"}),
    "libx265": Coding(
        "hevc", {"preset": "veryfast", "x265-params": "bframes=0:log-level=none:pools=none"}
    ),
    "libopenh264": Coding("h264", {}),
    "libvpx-vp9": Coding(
        "vp9", {"deadline": "good", "cpu-used": "4", "auto-alt-ref": "0", "lag-in-frames": "0"}
    ),
    "libsvtav1": Coding("av1", {"preset": "8"}),
    "libaom-av1": Coding("av1", {"cpu-used": "6", "lag-in-frames": "0"}),
    "mpeg4": Coding("mpeg4", {}),
    "h264_nvenc": Coding("h264", {**_NVENC, "spatial-aq": "1"}),
    "hevc_nvenc": Coding("hevc", {**_NVENC, "spatial_aq": "1"}),
    "av1_nvenc": Coding("av1", {**_NVENC, "spatial-aq": "1"}),
}
#: MPEG-4 part 2 counts at most so many ticks a second; the others take any clock of a file.
FINEST_CLOCK = {"mpeg4": 60_000}


@dataclass(frozen=True)
class Encoder:
    """An encoder that is present. `command`: the ffmpeg that has it, None for PyAV in process."""

    name: str
    command: str | None

    @property
    def options(self) -> dict[str, str]:
        return dict(ENCODERS[self.name].options)

    @property
    def codec(self) -> str:
        """The name of the format that it writes, such as h264."""
        return ENCODERS[self.name].codec

    @property
    def finest_clock(self) -> int:
        """The most ticks a second that time stamps may count."""
        return FINEST_CLOCK.get(self.name, 1_000_000)


def check_encoder(name: str) -> Encoder:
    """The encoder of that name, PyAV's if it has one.

    ClipError, listing those present, if neither PyAV nor an `ffmpeg` on PATH has it, or if it
    cannot be opened, as a hardware encoder without its hardware.
    """
    if name not in ENCODERS:
        raise ClipError(f"encoder {name!r} is not one of {', '.join(ENCODERS)}; {_present()}")
    if _in_process(name):
        reason = _refusal(name)
        if reason is not None:
            raise ClipError(f"encoder {name!r} cannot be opened here: {reason}; {_present()}")
        return Encoder(name, None)
    command = shutil.which("ffmpeg")
    if command is not None and name in _of_command(command):
        return Encoder(name, command)
    place = "no ffmpeg is on PATH" if command is None else f"{command} has none of that name"
    raise ClipError(f"encoder {name!r} is absent: PyAV lacks it and {place}; {_present()}")


def needs_hardware(name: str) -> bool:
    """Whether an encoder runs on a GPU."""
    return name.endswith("_nvenc")


def _present() -> str:
    command = shutil.which("ffmpeg")
    outside = _of_command(command) if command is not None else frozenset()
    names = [
        name
        for name in ENCODERS
        if (_refusal(name) is None if _in_process(name) else name in outside)
    ]
    return f"present: {', '.join(names) or 'none'}"


@lru_cache
def _in_process(name: str) -> bool:
    import av

    return name in av.codecs_available and av.Codec(name, "w").is_encoder


@lru_cache
def _refusal(name: str) -> str | None:
    """Why PyAV cannot open an encoder that it has, None if it can.

    Only those that need hardware are tried: the others print banners.
    """
    if not needs_hardware(name):
        return None
    import av
    from av.error import FFmpegError

    context = av.VideoCodecContext.create(name, "w")
    assert isinstance(context, av.VideoCodecContext)  # what a video encoder's name gives
    context.width, context.height, context.pix_fmt = 320, 240, "yuv420p"
    context.framerate = Fraction(30)
    context.options = dict(ENCODERS[name].options)
    try:
        context.open()
    except FFmpegError as error:
        return str(error.strerror)
    return None


@lru_cache
def _of_command(command: str) -> frozenset[str]:
    """Names of the video encoders that an ffmpeg lists."""
    listed = subprocess.run(
        [command, "-hide_banner", "-encoders"], capture_output=True, text=True, timeout=60
    )
    rows = (line.split() for line in listed.stdout.splitlines())
    return frozenset(row[1] for row in rows if len(row) > 1 and row[0].startswith("V"))
