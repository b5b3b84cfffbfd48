"""What a training step and what loading costs."""
