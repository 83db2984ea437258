"""Flags of ``dedup-assets split``."""

import argparse
from typing import Any

from dedup_assets.command.arguments import S3_SETTINGS, OneLineParser, add_settings, flag
from dedup_assets.settings import OF_CLUSTER
from dedup_assets.settings.videos import Videos

REQUIRED = ("video_dir", "output_clip_path")
SETTINGS = (*S3_SETTINGS, "storage_retries", "device", *sorted(OF_CLUSTER))
"""Those that a run has too."""


def add_split(parser: OneLineParser) -> None:
    """Add the flags of the command."""
    group = parser.add_argument_group("videos", Videos.__doc__)
    for name, field in Videos.model_fields.items():
        options: dict[str, Any] = {"dest": name, "default": argparse.SUPPRESS}
        help_ = field.description or ""
        if field.annotation is bool:
            on = field.default is True
            options["action"] = "store_false" if on else "store_true"
            spelled = f"--no-{name.replace('_', '-')}" if on else flag(name)
        else:
            spelled = flag(name)
            options["required"] = name in REQUIRED
            options["metavar"] = "PATH" if name in REQUIRED else name.rpartition("_")[2].upper()
            if field.default is not None:
                help_ += f" Default: {field.default}."
        group.add_argument(spelled, help=help_.replace("%", "%%"), **options)
    parser.add_argument(
        "--limit", type=int, metavar="N", help="Split at most N videos in this run."
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="Say what would be split, and write nothing."
    )
    add_settings(parser, only=SETTINGS)
