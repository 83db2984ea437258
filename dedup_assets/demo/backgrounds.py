"""The places in which the demo's scenes are set.

Each function takes two generators and returns a painter, `t` in seconds -> a new image. `world`
decides what the place looks like and `motion` how it moves, so that a look-alike can move
differently in the same place.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from dedup_assets.demo.drawing import (
    CANVAS_HEIGHT,
    CANVAS_WIDTH,
    HEIGHT,
    WIDTH,
    Camera,
    Canvas,
    Field,
    Image,
    X,
    Y,
    colour,
    fractal_noise,
    look_up,
    pack,
    palette,
    shades,
)

Solid = NDArray[np.bool_]
Painter = Callable[[float], Image]
Background = Callable[[np.random.Generator, np.random.Generator], Painter]
CANVAS = (CANVAS_HEIGHT, CANVAS_WIDTH)


def terrain(world: np.random.Generator, motion: np.random.Generator) -> Painter:
    """A landscape of noise seen from above by a camera that drifts and turns."""
    cells = int(world.integers(2, 7))
    field = fractal_noise(world, CANVAS, (cells, 2 * cells), octaves=6)
    if world.random() < 0.5:  # contour lines, as on a map
        field = (field + 0.12 * np.sin(field * world.uniform(40, 90))).astype(np.float32)
    canvas = pack(shades(field, palette(world)))
    camera = Camera.draw(motion, spin=0.15)
    return lambda t: camera.view(canvas, t)


def mosaic(world: np.random.Generator, motion: np.random.Generator) -> Painter:
    """Coloured cells around random points, as in stained glass."""
    count = int(world.integers(25, 90))
    h, w = CANVAS_HEIGHT // 2, CANVAS_WIDTH // 2
    y, x = np.mgrid[0:h, 0:w].astype(np.float32)
    nearest, second = np.full((2, h, w), np.inf, np.float32)
    owner = np.zeros((h, w), np.int64)
    for k, (py, px) in enumerate(world.random((count, 2)) * (h, w)):
        dy, dx = np.abs(y - py), np.abs(x - px)
        distance = np.hypot(np.minimum(dy, h - dy), np.minimum(dx, w - dx)).astype(np.float32)
        second = np.minimum(second, np.maximum(distance, nearest))
        owner[distance < nearest] = k
        nearest = np.minimum(nearest, distance)
    colours = palette(world)[world.integers(0, 256, count)]
    image = np.where((second - nearest < 2.0)[..., None], colour(world, 0.0, 0.3), colours[owner])
    canvas = pack(image.astype(np.uint8).repeat(2, axis=0).repeat(2, axis=1))
    camera = Camera.draw(motion, spin=0.5)
    return lambda t: camera.view(canvas, t)


def ridges(world: np.random.Generator, motion: np.random.Generator) -> Painter:
    """Mountain ranges in front of each other; the nearer ones pass faster."""
    layers = int(world.integers(3, 6))
    colours = palette(world)
    tops = np.sort(world.uniform(0.2, 0.85, layers)) * HEIGHT
    rough = world.uniform(15, 60)
    lines = [
        top - rough * (fractal_noise(world, (1, CANVAS_WIDTH), (1, 6 + 3 * k), 5)[0] - 0.5)
        for k, top in enumerate(tops)
    ]
    sky = shades((0.95 - 0.5 * Y / HEIGHT).astype(np.float32), colours)
    speeds = motion.choice([-1, 1]) * motion.uniform(10, 30) * 1.7 ** np.arange(layers)
    paints = [colours[int(v)] for v in np.linspace(120, 5, layers)]

    def paint(t: float) -> Image:
        frame = sky.copy()
        for line, speed, dye in zip(lines, speeds, paints, strict=True):
            columns = (np.arange(WIDTH) + int(speed * t)) % CANVAS_WIDTH
            np.copyto(frame, dye, where=(line[columns] < Y)[..., None])
        return frame

    return paint


def sea(world: np.random.Generator, motion: np.random.Generator) -> Painter:
    """Water up to a horizon under a sky with a sun or moon."""
    horizon = int(world.integers(40, 120))
    sky_colours, water = palette(world), palette(world, 0.0, 0.85)
    sky = shades(fractal_noise(world, (HEIGHT, WIDTH), (4, 2), 5) * 0.5 + 0.4, sky_colours)
    sun = np.hypot(X - world.uniform(30, WIDTH - 30), Y - world.uniform(10, horizon))
    sky[sun < world.uniform(8, 24)] = colour(world, 0.9)
    depth = (np.arange(1, HEIGHT - horizon + 1, dtype=np.float32) ** -0.8)[:, None]
    x = (X[:1] - WIDTH / 2) * depth
    waves = [
        (motion.uniform(0.02, 0.3), motion.uniform(40, 160), motion.uniform(-5, 5))
        for _ in range(3)
    ]

    def paint(t: float) -> Image:
        height = np.zeros_like(x)
        for along, across, speed in waves:
            height += np.sin(np.float32(along) * x + np.float32(across) * depth + speed * t)
        frame = sky.copy()
        frame[horizon:] = shades(0.45 + height / 7, water)
        return frame

    return paint


def city(world: np.random.Generator, motion: np.random.Generator) -> Painter:
    """Houses with lit windows passing by, two rows deep."""
    colours = palette(world)
    sky = shades((Y / HEIGHT * world.uniform(0.3, 1)).astype(np.float32), colours)
    rows: list[tuple[Image, Solid, float]] = []
    for depth in range(2):
        strip = np.zeros((HEIGHT, CANVAS_WIDTH, 3), np.uint8)
        at = 0
        while at < CANVAS_WIDTH:
            wide, tall = int(world.integers(24, 80)), int(world.integers(30, 150 - 40 * depth))
            wall = strip[HEIGHT - tall :, at : at + wide - 2]
            wall[:] = np.maximum(colours[int(world.integers(10, 90 + 60 * depth))], 1)
            step = int(world.integers(7, 14))
            lit = world.random((tall // step + 1, wide // step + 1)) < world.uniform(0.2, 0.8)
            panes = lit.repeat(step, 0).repeat(step, 1)[: wall.shape[0], : wall.shape[1]]
            frames = (np.arange(panes.shape[0]) % step > 2)[:, None]
            frames = frames & (np.arange(panes.shape[1]) % step > 3)
            wall[panes & frames] = colour(world, 0.8)
            at += wide
        rows.append((strip, _solid(strip), float(motion.uniform(10, 40) * (1 + 1.5 * depth))))
    sign = motion.choice([-1, 1])

    def paint(t: float) -> Image:
        frame = sky.copy()
        for strip, solid, speed in rows:
            columns = (np.arange(WIDTH) + int(sign * speed * t)) % CANVAS_WIDTH
            np.copyto(frame, strip[:, columns], where=solid[:, columns])
        return frame

    return paint


def _solid(strip: Image) -> Solid:
    """Where a strip is painted, of shape (h, w, 1); black means nothing there."""
    return (strip != 0).max(axis=2, keepdims=True)


def _polar(world: np.random.Generator) -> tuple[Field, Field]:
    """Radius in pixels and angle in [0, CANVAS_WIDTH) around a random centre."""
    x, y = X - world.uniform(0.25, 0.75) * WIDTH, Y - world.uniform(0.25, 0.75) * HEIGHT
    angle = (np.arctan2(y, x) / (2 * np.pi) + 0.5) * CANVAS_WIDTH
    return np.hypot(x, y) + 1, angle.astype(np.float32)


def tunnel(world: np.random.Generator, motion: np.random.Generator) -> Painter:
    """A flight through a textured tube."""
    radius, angle = _polar(world)
    field = fractal_noise(world, CANVAS, (int(world.integers(4, 12)), 8), 4)
    ribs = np.arange(CANVAS_HEIGHT)[:, None] // int(2 ** world.integers(4, 7)) % 2
    wall = (0.7 * field + 0.3 * ribs).astype(np.float32)
    canvas = pack(shades(wall, palette(world)))
    depth = (world.uniform(4000, 9000) / radius).astype(np.int32)
    light = np.clip(radius / 70, 0.05, 1)[..., None].astype(np.float32)
    speed, spin = motion.uniform(60, 250) * motion.choice([-1, 1]), motion.uniform(-150, 150)
    around = angle.astype(np.int32)
    return lambda t: (
        look_up(canvas, depth + int(speed * t), around + int(spin * t)) * light
    ).astype(np.uint8)


def road(world: np.random.Generator, motion: np.random.Generator) -> Painter:
    """A road with a broken line through fields, running towards the viewer and bending."""
    horizon = int(world.integers(45, 100))
    field = fractal_noise(world, CANVAS, (16, 16), 4)
    image = shades(field, palette(world))
    lane = int(world.integers(60, 130))
    middle = slice(CANVAS_WIDTH // 2 - lane, CANVAS_WIDTH // 2 + lane)
    image[:, middle] = shades(0.3 + 0.1 * field[:, middle], palette(world))
    dash = np.arange(CANVAS_HEIGHT) // int(2 ** world.integers(5, 7)) % 2 == 0
    image[dash, CANVAS_WIDTH // 2 - 6 : CANVAS_WIDTH // 2 + 6] = colour(world, 0.9)
    canvas: Canvas = pack(image)
    sky = shades(fractal_noise(world, (horizon, WIDTH), (2, 4), 4), palette(world, 0.3))
    near = 1.0 / np.arange(2, HEIGHT - horizon + 2, dtype=np.float32)[:, None]
    along = (6000 * near).astype(np.int32)
    x = (X[:1] - WIDTH / 2) * near * world.uniform(100, 220)
    speed, bend, rate = motion.uniform(80, 300), motion.uniform(200, 900), motion.uniform(0.3, 1)

    def paint(t: float) -> Image:
        turn = np.float32(bend * np.sin(rate * t)) * near * 10
        columns = (x + turn + CANVAS_WIDTH / 2).astype(np.int32)
        ground = look_up(canvas, along + int(speed * t), columns)
        return np.concatenate([sky, ground])

    return paint


def interference(world: np.random.Generator, motion: np.random.Generator) -> Painter:
    """Waves from three moving sources that overlap."""
    colours = palette(world)
    lengths = world.uniform(6, 40, 3).astype(np.float32)
    homes = world.random((3, 2)) * (WIDTH, HEIGHT)
    reach, rates = motion.uniform(10, 70, (3, 2)), motion.uniform(0.4, 1.5, (3, 2))
    speeds = motion.uniform(-6, 6, 3)

    def paint(t: float) -> Image:
        field = np.full((HEIGHT, WIDTH), 0.5, np.float32)
        for k, (px, py) in enumerate(homes + reach * np.sin(rates * t)):
            distance = np.sqrt((X - np.float32(px)) ** 2 + (Y - np.float32(py)) ** 2)
            field += np.sin(distance / lengths[k] + np.float32(speeds[k] * t)) / 6
        return shades(field, colours)

    return paint


def forest(world: np.random.Generator, motion: np.random.Generator) -> Painter:
    """Trunks in three rows in front of a hazy wood, passing sideways."""
    colours = palette(world)
    haze = shades(fractal_noise(world, (HEIGHT, WIDTH), (3, 5), 5) * 0.4 + 0.55, colours)
    strips: list[tuple[Image, Solid, float]] = []
    for depth in range(3):
        strip = np.zeros((HEIGHT, CANVAS_WIDTH, 3), np.uint8)
        bark = fractal_noise(world, (HEIGHT, CANVAS_WIDTH), (2, 64), 3)
        for left in world.integers(0, CANVAS_WIDTH, int(world.integers(6, 14))):
            trunk = slice(left, left + int(world.integers(6, 14) * (1 + depth)))
            shade = bark[:, trunk] * 0.3 + 0.35 - 0.14 * depth
            strip[:, trunk] = np.maximum(shades(shade, colours), 1)
        strips.append((strip, _solid(strip), float(15 * 2.2**depth * motion.uniform(0.5, 1.5))))
    sign = motion.choice([-1, 1])

    def paint(t: float) -> Image:
        frame = haze.copy()
        for strip, solid, speed in strips:
            columns = (np.arange(WIDTH) + int(sign * speed * t)) % CANVAS_WIDTH
            np.copyto(frame, strip[:, columns], where=solid[:, columns])
        return frame

    return paint


def smoke(world: np.random.Generator, motion: np.random.Generator) -> Painter:
    """Two sheets of noise sliding over each other, as smoke or fire does."""
    sheets = [fractal_noise(world, CANVAS, (int(world.integers(3, 8)), 8), 5) for _ in range(2)]
    tilt = world.uniform(-0.6, 0.6, 2)
    slope = (tilt[0] * (X / WIDTH - 0.5) + tilt[1] * (Y / HEIGHT - 0.5)).astype(np.float32)
    colours = palette(world)
    drifts = motion.uniform(-90, 90, (2, 2))
    rows, columns = np.arange(HEIGHT), np.arange(WIDTH)

    def paint(t: float) -> Image:
        field = slope.copy()
        for sheet, (vy, vx) in zip(sheets, drifts, strict=True):
            field += sheet[
                np.ix_((rows + int(vy * t)) % CANVAS_HEIGHT, (columns + int(vx * t)) % CANVAS_WIDTH)
            ]
        return shades(field - 0.5, colours)

    return paint


def weave(world: np.random.Generator, motion: np.random.Generator) -> Painter:
    """A woven cloth of coloured stripes under a turning camera."""
    colours = palette(world)
    y, x = np.mgrid[0:CANVAS_HEIGHT, 0:CANVAS_WIDTH]
    warp, weft = (
        world.random(CANVAS_WIDTH // period)[x_or_y // period]
        for period, x_or_y in ((int(2 ** world.integers(3, 7)), axis) for axis in (x, y))
    )
    over = (x // 4 + y // 4) % 2 == 0
    canvas = pack(shades(np.where(over, warp, weft).astype(np.float32), colours))
    camera = Camera.draw(motion, spin=0.8, breath=0.5)
    return lambda t: camera.view(canvas, t)


def galaxy(world: np.random.Generator, motion: np.random.Generator) -> Painter:
    """A turning spiral of dust and stars on black."""
    radius, angle = _polar(world)
    arms, twist = int(world.integers(2, 5)), world.uniform(4, 14)
    turn = np.arange(CANVAS_WIDTH) * (2 * np.pi / CANVAS_WIDTH)
    r = np.arange(CANVAS_HEIGHT)[:, None]
    glow = np.exp(-r / world.uniform(50, 130)) * (1 + np.cos(arms * turn + twist * np.log(r + 5)))
    dust = fractal_noise(world, CANVAS, (16, 16), 5)
    image = shades((0.75 * glow * (0.4 + dust)).astype(np.float32), palette(world, 0.0))
    stars = world.integers(0, CANVAS_HEIGHT, 900), world.integers(0, CANVAS_WIDTH, 900)
    image[stars] = world.integers(120, 255, (900, 3))
    canvas = pack(image)
    rows, around = radius.astype(np.int32), angle.astype(np.int32)
    spin = motion.choice([-1, 1]) * motion.uniform(40, 160)
    return lambda t: look_up(canvas, rows, around + int(spin * t))


BACKGROUNDS: tuple[Background, ...] = (
    terrain, ridges, tunnel, city, mosaic, sea, road, interference, forest, smoke, weave, galaxy,
)  # fmt: skip
