"""Small tools for drawing frames with NumPy: noise, palettes, cameras, blending.

Images are RGB uint8 of shape (HEIGHT, WIDTH, 3). Colours are RGB uint8 of shape (3,). Canvases are
larger than a frame, periodic in both directions, and hold a pixel in one uint32, so that a camera
reads one number per pixel.
"""

import colorsys
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Field = NDArray[np.float32]
Canvas = NDArray[np.uint32]

WIDTH, HEIGHT = 320, 180
CANVAS_HEIGHT, CANVAS_WIDTH = 512, 1024  # powers of two: an index wraps with one bitwise and

#: Pixel coordinates, of shape (HEIGHT, WIDTH).
Y, X = (axis.astype(np.float32) for axis in np.mgrid[0:HEIGHT, 0:WIDTH])


def fractal_noise(
    rng: np.random.Generator, shape: tuple[int, int], cells: tuple[int, int], octaves: int = 4
) -> Field:
    """Periodic value noise of `shape`, in [0, 1]; the coarsest octave has `cells` (rows, columns).

    Each octave doubles the frequency and halves the amplitude.
    """
    total = np.zeros(shape, np.float32)
    for octave in range(octaves):
        grid = rng.random((cells[0] << octave, cells[1] << octave), np.float32)
        total += _stretch(_stretch(grid, shape[0]).T, shape[1]).T * np.float32(0.5**octave)
    low, high = total.min(), total.max()
    return (total - low) / (high - low)


def _stretch(grid: Field, rows: int) -> Field:
    """Smooth periodic interpolation of the rows of `grid`."""
    at = np.arange(rows, dtype=np.float32) * (len(grid) / rows)
    low = at.astype(np.int64)
    part = (at - low)[:, None]
    part = part * part * (3 - 2 * part)
    start, end = grid[low], grid[(low + 1) % len(grid)]
    return (start + (end - start) * part).astype(np.float32)


def colour(rng: np.random.Generator, low: float = 0.55, high: float = 1.0) -> Image:
    """A saturated colour whose value (HSV) lies in [low, high]."""
    return _rgb(rng.random(), rng.uniform(0.4, 1.0), rng.uniform(low, high))


def palette(rng: np.random.Generator, low: float = 0.05, high: float = 1.0) -> Image:
    """256 colours, of shape (256, 3), from dark (`low`) to bright (`high`) through drifting hues.

    Day, dusk and night differ in how much of the range from low to high is used.
    """
    day = rng.random()
    low, high = low + 0.3 * (high - low) * max(0.0, day - 0.5), high - 0.5 * max(0.0, 0.5 - day)
    hue, drift = rng.random(), rng.uniform(-0.45, 0.45)
    stops = np.linspace(0, 1, 5)
    anchors = [_rgb(hue + drift * s, rng.uniform(0.15, 0.9), low + (high - low) * s) for s in stops]
    at = np.linspace(0, 1, 256)
    channels = [np.interp(at, stops, channel) for channel in np.array(anchors, float).T]
    return np.stack(channels, axis=1).astype(np.uint8)


def _rgb(hue: float, saturation: float, value: float) -> Image:
    rgb = colorsys.hsv_to_rgb(hue % 1.0, saturation, value)
    return np.array([255 * channel for channel in rgb]).astype(np.uint8)


def shades(field: Field, colours: Image) -> Image:
    """Look the values of `field` (clipped to [0, 1]) up in a palette."""
    index = np.clip(field * 255, 0, 255).astype(np.uint8)
    return colours[index]


def pack(image: Image) -> Canvas:
    """An (h, w, 3) image as an (h, w) canvas."""
    rgba = np.zeros((*image.shape[:2], 4), np.uint8)
    rgba[..., :3] = image
    return rgba.view(np.uint32)[..., 0]


def look_up(canvas: Canvas, rows: NDArray[np.int32], columns: NDArray[np.int32]) -> Image:
    """The canvas at integer positions (any integers: it is periodic), as an image."""
    height, width = canvas.shape
    packed = canvas.ravel().take((rows & (height - 1)) * width + (columns & (width - 1)))
    return np.ascontiguousarray(packed[..., None].view(np.uint8)[..., :3])


@dataclass(frozen=True)
class Camera:
    """A camera over a canvas that drifts, sways, zooms and turns (pixels, seconds, radians)."""

    start: tuple[float, float]
    drift: tuple[float, float]
    sway: tuple[float, float]
    zoom: float
    breath: float
    angle: float
    spin: float
    rate: float

    @staticmethod
    def draw(rng: np.random.Generator, *, spin: float = 0.0, breath: float = 0.3) -> "Camera":
        """A random camera that turns by at most `spin` a second; `breath` bounds the zoom."""
        heading, speed = rng.uniform(0, 2 * np.pi), rng.uniform(8, 60)
        return Camera(
            start=(rng.uniform(0, CANVAS_WIDTH), rng.uniform(0, CANVAS_HEIGHT)),
            drift=(speed * np.cos(heading), 0.6 * speed * np.sin(heading)),
            sway=(rng.uniform(0, 30), rng.uniform(0, 20)),
            zoom=rng.uniform(0.6, 1.4),
            breath=rng.uniform(0, breath),
            angle=rng.uniform(-0.3, 0.3) if spin else 0.0,
            spin=rng.uniform(-spin, spin),
            rate=rng.uniform(0.5, 2.0),
        )

    def view(self, canvas: Canvas, t: float) -> Image:
        """What it sees at `t` seconds."""
        scale = self.zoom * (1 + self.breath * np.sin(self.rate * t))
        cos, sin = (scale * f(self.angle + self.spin * t) for f in (np.cos, np.sin))
        x = self.start[0] + self.drift[0] * t + self.sway[0] * np.sin(1.7 * self.rate * t)
        y = self.start[1] + self.drift[1] * t + self.sway[1] * np.cos(1.3 * self.rate * t)
        u, v = X - WIDTH / 2, Y - HEIGHT / 2
        columns = np.float32(cos) * u - np.float32(sin) * v + np.float32(x)
        rows = np.float32(sin) * u + np.float32(cos) * v + np.float32(y)
        return look_up(canvas, rows.astype(np.int32), columns.astype(np.int32))


def blend(frame: Image, x: float, y: float, alpha: Field, paint: Image) -> None:
    """Paint a sprite into `frame` with its centre at (x, y), cut at the edges.

    `alpha` of shape (h, w) in [0, 1]; `paint` a colour, or an image of shape (h, w, 3).
    """
    h, w = alpha.shape
    top, left = round(y - h / 2), round(x - w / 2)
    rows = slice(max(0, top), max(0, min(HEIGHT, top + h)))
    columns = slice(max(0, left), max(0, min(WIDTH, left + w)))
    inner = (
        slice(rows.start - top, rows.stop - top),
        slice(columns.start - left, columns.stop - left),
    )
    if rows.stop <= rows.start or columns.stop <= columns.start:
        return
    a = alpha[inner][..., None]
    colours = paint[inner] if paint.ndim == 3 else paint
    target = frame[rows, columns]
    target[:] = (target * (1 - a) + colours * a).astype(np.uint8)


def paint_where(frame: Image, mask: NDArray[np.bool_], paint: Image) -> None:
    """Set the pixels of `frame` under `mask`, of shape (HEIGHT, WIDTH), to one colour."""
    np.copyto(frame, paint, where=mask[..., None])


def grid(h: int, w: int) -> tuple[Field, Field]:
    """Coordinates (x, y) relative to the middle of an (h, w) sprite."""
    y, x = np.mgrid[0:h, 0:w].astype(np.float32)
    return x - (w - 1) / 2, y - (h - 1) / 2


def disc(radius: float) -> Field:
    """The alpha of a disc with a soft edge one pixel wide."""
    side = 2 * int(np.ceil(radius)) + 3
    x, y = grid(side, side)
    return np.clip(radius + 0.5 - np.hypot(x, y), 0, 1).astype(np.float32)


def bounce(t: float, start: float, speed: float, low: float, high: float) -> float:
    """A position that moves between `low` and `high` and is thrown back at both."""
    span = high - low
    phase = (start + speed * t) % (2 * span)
    return low + min(phase, 2 * span - phase)
