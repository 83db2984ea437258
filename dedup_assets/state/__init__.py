"""What an output folder knows of itself: read once in a step, and committed last."""
