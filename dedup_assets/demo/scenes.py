"""Scenes of the demo: a place, and something that moves in it."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from dedup_assets.demo.backgrounds import BACKGROUNDS
from dedup_assets.demo.drawing import Image
from dedup_assets.demo.foregrounds import FOREGROUNDS

FPS = 20
SECONDS = 6
"""What a scene lasts: as long as the clips that the demo's videos are cut into."""
FRAMES = FPS * SECONDS


@dataclass(frozen=True)
class Scene:
    """Everything that decides the frames of a scene. Seeds are entropy for `default_rng`."""

    background: int
    foreground: int
    world_seed: tuple[int, ...]
    motion_seed: tuple[int, ...]
    actor_seed: tuple[int, ...]


def plan_scene(index: int, seed: int) -> Scene:
    """The `index`-th scene of a set; scenes 0 to 143 all pair another place with another actor."""
    round_, background = divmod(index, len(BACKGROUNDS))
    return Scene(
        background=background,
        # 5 and 12 share no divisor: places and actors meet in an order without a visible pattern.
        foreground=(5 * background + round_) % len(FOREGROUNDS),
        world_seed=(seed, index, 1),
        motion_seed=(seed, index, 2),
        actor_seed=(seed, index, 3),
    )


def lookalike(scene: Scene, index: int) -> Scene:
    """A scene in the same place that is not a duplicate of `scene`.

    For every other `index` something else moves there; for the rest the same kind of thing, but
    another of it that moves otherwise, and the place itself moves otherwise too.
    """
    other = replace(scene, actor_seed=(*scene.actor_seed, 1))
    if index % 2 == 0:
        return replace(other, foreground=(scene.foreground + 6) % len(FOREGROUNDS))
    return replace(other, motion_seed=(*scene.motion_seed, 1))


def draw(scene: Scene) -> Iterator[Image]:
    """The frames of a scene in order, RGB uint8 of shape (HEIGHT, WIDTH, 3)."""
    world, motion, actor = (
        np.random.default_rng(seed)
        for seed in (scene.world_seed, scene.motion_seed, scene.actor_seed)
    )
    paint = BACKGROUNDS[scene.background](world, motion)
    act = FOREGROUNDS[scene.foreground](actor)
    for k in range(FRAMES):
        frame = paint(k / FPS)
        act(frame, k / FPS)
        yield frame
