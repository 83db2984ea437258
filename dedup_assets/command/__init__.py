"""What the ``dedup-assets`` command does; `dedup_assets.cli` reads its arguments."""
