"""Small videos whose every frame shows its number, and the reading of these numbers."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.video.frame import VideoFrame

ROWS, COLUMNS = 3, 4  # 12 bits
WIDTH, HEIGHT = 64, 48


def picture(number: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """RGB of shape (height, width, 3): the bits of a number as a grid of dark and light cells."""
    bits = (number >> np.arange(ROWS * COLUMNS)) & 1
    rows = np.arange(height) * ROWS // height
    columns = np.arange(width) * COLUMNS // width
    grey = np.where(bits.reshape(ROWS, COLUMNS)[rows[:, None], columns], 210, 40)
    return np.repeat(grey[:, :, None], 3, axis=2).astype(np.uint8)


def number_of(pixels: np.ndarray) -> int:
    """The number that a picture shows; its cells must be clearly dark or light."""
    height, width = pixels.shape[:2]
    total = 0
    for bit in range(ROWS * COLUMNS):
        y = (2 * (bit // COLUMNS) + 1) * height // (2 * ROWS)
        x = (2 * (bit % COLUMNS) + 1) * width // (2 * COLUMNS)
        grey = pixels[y - 2 : y + 3, x - 2 : x + 3].mean()
        assert grey < 100 or grey > 150, f"cell {bit} is grey: {grey}"
        total |= int(grey > 125) << bit
    return total


def write_video(
    path: Path,
    times: Sequence[int],
    tick: Fraction,
    *,
    codec: str = "libx264",
    rate: Fraction = Fraction(30),
    size: tuple[int, int] = (WIDTH, HEIGHT),
    options: dict[str, str] | None = None,
    turns: int = 0,
    audio: str | None = None,
    container: dict[str, str] | None = None,
    paint: Callable[[int, int, int], np.ndarray] = picture,
) -> Path:
    """Frame k shows k at `times[k]` ticks; `turns`: quarter turns that a player is to make.

    `paint` gives the RGB of a frame from its number, width and height.
    """
    with av.open(path, "w", options=container or {}) as target:
        stream = target.add_stream(codec, rate=rate, options=options or {})
        stream.width, stream.height = size if turns % 2 == 0 else size[::-1]
        stream.pix_fmt = "yuv420p" if all(side % 2 == 0 for side in size) else "yuv444p"
        stream.time_base = stream.codec_context.time_base = tick
        stream.bit_rate = 2_000_000
        stream.codec_context.thread_count = 1
        if turns:
            stream.set_display_rotation(90 * turns)
        track = target.add_stream(audio, rate=48_000) if audio else None
        for number, time in enumerate(times):
            stored = np.rot90(paint(number, *size), -turns)
            frame = VideoFrame.from_ndarray(np.ascontiguousarray(stored), format="rgb24")
            frame.pts, frame.time_base = time, tick
            target.mux(stream.encode(frame))
        target.mux(stream.encode(None))
        if track is not None:
            for k in range(round(times[-1] * tick * 48_000 / 1024)):
                sound = AudioFrame.from_ndarray(
                    np.full((1, 2 * 1024), 300 * (k % 2), np.int16), format="s16", layout="stereo"
                )
                sound.pts, sound.rate, sound.time_base = 1024 * k, 48_000, Fraction(1, 48_000)
                target.mux(track.encode(sound))
            target.mux(track.encode(None))
    return path


def regular(path: Path, frames: int, rate: Fraction = Fraction(30), **options: object) -> Path:
    """A video of a constant rate."""
    return write_video(path, range(frames), 1 / rate, rate=rate, **options)  # type: ignore[arg-type]


def shown(path: Path) -> tuple[list[int], list[float]]:
    """The numbers of a file's frames, and their times in seconds."""
    numbers, times = [], []
    with av.open(path) as source:
        for frame in source.decode(video=0):
            numbers.append(number_of(frame.to_ndarray(format="rgb24")))
            times.append(frame.time)
    return numbers, times


#: Neighbours differ in brightness and in saturation.
COLOURS = ((200, 30, 30), (20, 20, 60), (240, 240, 240), (30, 120, 30))


def coloured(cuts: Sequence[int]) -> Callable[[int, int, int], np.ndarray]:
    """Paints scenes of one colour each, with a bright bar that moves; `cuts` are first frames."""

    def paint(number: int, width: int, height: int) -> np.ndarray:
        pixels = np.empty((height, width, 3), np.uint8)
        pixels[:] = COLOURS[sum(number >= cut for cut in cuts) % len(COLOURS)]
        pixels[:2, number % width] = 255
        return pixels

    return paint
