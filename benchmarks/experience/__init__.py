"""What a dataset of Atari transitions takes on disk, and how fast it is read back."""
