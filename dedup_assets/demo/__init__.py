"""For `dedup-assets demo` alone: clips whose truth is known, and how much of it was found."""
