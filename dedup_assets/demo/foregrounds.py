"""The things that move in the demo's scenes.

Each function takes one generator, which decides looks and motion, and returns an actor that paints
itself into an image at `t` seconds.
"""

from collections.abc import Callable
from itertools import pairwise

import numpy as np

from dedup_assets.demo.drawing import (
    HEIGHT,
    WIDTH,
    Image,
    X,
    Y,
    blend,
    bounce,
    colour,
    disc,
    grid,
    paint_where,
)

Actor = Callable[[Image, float], None]
Foreground = Callable[[np.random.Generator], Actor]


def balls(rng: np.random.Generator) -> Actor:
    """Shaded balls that bounce off the edges."""
    bodies = []
    for _ in range(int(rng.integers(3, 8))):
        radius = rng.uniform(9, 28)
        alpha = disc(radius)
        x, y = grid(*alpha.shape)
        shine = np.clip(1.1 - np.hypot(x + radius / 3, y + radius / 3) / (1.6 * radius), 0.2, 1)
        skin = (shine[..., None] * colour(rng)).astype(np.uint8)
        bodies.append((alpha, skin, rng.uniform(0, 600, 2), rng.uniform(40, 160, 2)))

    def act(frame: Image, t: float) -> None:
        for alpha, skin, (x0, y0), (vx, vy) in bodies:
            blend(frame, bounce(t, x0, vx, 0, WIDTH), bounce(t, y0, vy, 0, HEIGHT), alpha, skin)

    return act


def rotor(rng: np.random.Generator) -> Actor:
    """A wheel with blades that turns in one place."""
    radius, blades = rng.uniform(35, 75), int(rng.integers(2, 7))
    side = 2 * int(radius) + 1
    x, y = grid(side, side)
    distance, angle = np.hypot(x, y), np.arctan2(y, x)
    place = rng.uniform(0.25, 0.75, 2) * (WIDTH, HEIGHT)
    speed, dye, hub = rng.choice([-1, 1]) * rng.uniform(0.8, 4), colour(rng), colour(rng)
    near, thin = distance < radius, rng.uniform(-0.3, 0.4)

    def act(frame: Image, t: float) -> None:
        shape = near & (np.cos(blades * (angle - speed * t)) > thin)
        blend(frame, place[0], place[1], shape.astype(np.float32), dye)
        blend(frame, place[0], place[1], disc(radius / 6), hub)

    return act


def snow(rng: np.random.Generator) -> Actor:
    """Flakes, drops or embers that fall, rise or drive sideways."""
    count = int(rng.integers(150, 400))
    at = rng.random((count, 2)) * (HEIGHT, WIDTH)
    velocity = rng.choice([-1, 1]) * rng.uniform(30, 140), rng.uniform(-70, 70)
    pace, size = rng.uniform(0.5, 1.5, (count, 1)), int(rng.integers(2, 5))
    dye = colour(rng, 0.8)

    def act(frame: Image, t: float) -> None:
        rows, columns = (at + pace * np.array(velocity) * t).astype(np.int64).T
        for dy in range(size):
            for dx in range(2):
                frame[(rows + dy) % HEIGHT, (columns + dx) % WIDTH] = dye

    return act


def train(rng: np.random.Generator) -> Actor:
    """Wagons with windows that cross the picture again and again."""
    wagons, length, height = (int(rng.integers(*b)) for b in ((2, 6), (40, 90), (22, 48)))
    body = np.empty((height, wagons * length, 3), np.uint8)
    body[:] = colour(rng)
    body[height // 5 : height // 2, np.arange(body.shape[1]) % 16 < 9] = colour(rng, 0.85)
    body[-4:] = 20
    alpha = np.ones(body.shape[:2], np.float32)
    alpha[:, np.arange(body.shape[1]) % length < 4] = 0
    y, start, way = rng.uniform(40, HEIGHT - 25), rng.uniform(0, WIDTH), WIDTH + body.shape[1]
    speed = rng.choice([-1, 1]) * rng.uniform(50, 180)

    def act(frame: Image, t: float) -> None:
        blend(frame, (start + speed * t) % way - body.shape[1] / 2, y, alpha, body)

    return act


def flock(rng: np.random.Generator) -> Actor:
    """Birds that beat their wings and cross together."""
    count, span = int(rng.integers(6, 16)), rng.uniform(10, 24)
    offsets = rng.normal(0, 1, (count, 2)) * (60, 25)
    beats = rng.uniform(0, 6, count)
    velocity = rng.choice([-1, 1]) * rng.uniform(30, 100), rng.uniform(-20, 20)
    home, dye = rng.random(2) * (WIDTH, HEIGHT), colour(rng, 0.0, 1.0)
    x, y = grid(2 * int(span), 2 * int(span))

    def act(frame: Image, t: float) -> None:
        for (dx, dy), beat in zip(offsets, beats, strict=True):
            lift = np.float32(0.8 * np.sin(9 * t + beat))
            wings = (np.abs(y + lift * np.abs(x) - 2) < 2.2) & (np.abs(x) < span)
            at = (home + (dx, dy) + np.array(velocity) * t) % (WIDTH, HEIGHT)
            blend(frame, at[0], at[1], wings.astype(np.float32), dye)

    return act


def pendulum(rng: np.random.Generator) -> Actor:
    """A heavy bob that swings on a rod from the top edge."""
    length, bob = rng.uniform(80, 150), disc(rng.uniform(14, 32))
    pivot, swing, rate = rng.uniform(90, WIDTH - 90), rng.uniform(0.5, 1.1), rng.uniform(1.5, 4)
    dye, rod = colour(rng), disc(rng.uniform(1.5, 4))

    def act(frame: Image, t: float) -> None:
        angle = swing * np.sin(rate * t)
        for part in np.linspace(0, 1, 40):
            x, y = pivot + part * length * np.sin(angle), part * length * np.cos(angle)
            blend(frame, x, y, rod, dye)
        blend(frame, pivot + length * np.sin(angle), length * np.cos(angle), bob, dye)

    return act


def bars(rng: np.random.Generator) -> Actor:
    """Columns that rise and fall, as on an equaliser."""
    count, reach = int(rng.integers(5, 16)), rng.uniform(50, 120)
    rates, phases = rng.uniform(1, 5, count), rng.uniform(0, 6, count)
    dyes = [colour(rng) for _ in range(count)]
    edges = np.linspace(rng.integers(0, 80), WIDTH - rng.integers(0, 80), count + 1).astype(int)
    hanging = rng.random() < 0.5

    def act(frame: Image, t: float) -> None:
        tall = (reach * (0.55 + 0.45 * np.sin(rates * t + phases))).astype(int)
        for k, (left, right) in enumerate(pairwise(edges)):
            rows = slice(0, tall[k]) if hanging else slice(HEIGHT - tall[k], HEIGHT)
            frame[rows, left : right - 3] = dyes[k]

    return act


def rings(rng: np.random.Generator) -> Actor:
    """Rings that spread from a point, as on a pond."""
    distance = np.hypot(X - rng.uniform(40, WIDTH - 40), Y - rng.uniform(30, HEIGHT - 30))
    gap, thick, speed = rng.uniform(45, 110), rng.uniform(4, 14), rng.uniform(25, 110)
    dye = colour(rng)

    def act(frame: Image, t: float) -> None:
        paint_where(frame, np.mod(distance - np.float32(speed * t), np.float32(gap)) < thick, dye)

    return act


def ribbon(rng: np.random.Generator) -> Actor:
    """Broad bands that wave across the picture."""
    bands = [
        (rng.uniform(30, 150), rng.uniform(10, 45), rng.uniform(0.01, 0.05), rng.uniform(-4, 4),
         rng.uniform(6, 18), colour(rng))
        for _ in range(int(rng.integers(1, 4)))
    ]  # fmt: skip

    def act(frame: Image, t: float) -> None:
        for middle, reach, wave, speed, thick, dye in bands:
            line = middle + reach * np.sin(wave * X[:1] + speed * t)
            paint_where(frame, np.abs(Y - line.astype(np.float32)) < thick, dye)

    return act


def spotlight(rng: np.random.Generator) -> Actor:
    """A beam that wanders over a dimmed picture."""
    reach, dim = rng.uniform(35, 80), rng.uniform(0.15, 0.45)
    x, y = grid(2 * HEIGHT, 2 * WIDTH)
    light = (dim + (1.15 - dim) * np.exp(-(((x**2 + y**2) / reach**2) ** 2)))[..., None]
    light = (256 * np.minimum(light, 1)).astype(np.uint16)
    rates, phases = rng.uniform(0.5, 2.2, 2), rng.uniform(0, 6, 2)

    def act(frame: Image, t: float) -> None:
        sway = 0.5 + 0.4 * np.sin(rates * t + phases)
        left, top = int(WIDTH * (1 - sway[0])), int(HEIGHT * (1 - sway[1]))
        seen = light[top : top + HEIGHT, left : left + WIDTH]
        frame[:] = (frame * seen) >> 8

    return act


def fish(rng: np.random.Generator) -> Actor:
    """Fish that swim on closed paths and face where they go."""
    school = []
    for _ in range(int(rng.integers(3, 8))):
        length = rng.uniform(14, 40)
        x, y = grid(int(1.4 * length), int(2.6 * length))
        belly = (x / length) ** 2 + (y / (0.45 * length)) ** 2 < 1
        tail = (x < -0.8 * length) & (np.abs(y) < -(x + 0.7 * length))
        path = rng.uniform(60, 150), rng.uniform(20, 80), rng.uniform(0.4, 1.4), rng.uniform(0, 6)
        home = rng.uniform(0.3, 0.7, 2) * (WIDTH, HEIGHT)
        school.append(((belly | tail).astype(np.float32), colour(rng), path, home))

    def act(frame: Image, t: float) -> None:
        for shape, dye, (rx, ry, rate, phase), home in school:
            turn = rate * t + phase
            facing = shape if np.cos(turn) > 0 else shape[:, ::-1]
            blend(frame, home[0] + rx * np.sin(turn), home[1] + ry * np.sin(2 * turn), facing, dye)

    return act


def polygon(rng: np.random.Generator) -> Actor:
    """Large plates with three to six sides that tumble and wander."""
    plates = []
    for _ in range(int(rng.integers(1, 4))):
        radius, sides = rng.uniform(22, 50), int(rng.integers(3, 7))
        plates.append(
            (radius, sides, rng.uniform(-3, 3), rng.uniform(0, 600, 2), rng.uniform(20, 90, 2),
             colour(rng), grid(2 * int(radius) + 3, 2 * int(radius) + 3))
        )  # fmt: skip

    def act(frame: Image, t: float) -> None:
        for radius, sides, spin, (x0, y0), (vx, vy), dye, (x, y) in plates:
            normals = spin * t + np.arange(sides) * (2 * np.pi / sides)
            reach = np.max([np.cos(a) * x + np.sin(a) * y for a in normals], axis=0)
            shape = np.clip(radius * np.cos(np.pi / sides) - reach, 0, 1).astype(np.float32)
            blend(frame, bounce(t, x0, vx, 0, WIDTH), bounce(t, y0, vy, 0, HEIGHT), shape, dye)

    return act


FOREGROUNDS: tuple[Foreground, ...] = (
    balls, bars, snow, rotor, train, spotlight, fish, rings, pendulum, flock, ribbon, polygon,
)  # fmt: skip
