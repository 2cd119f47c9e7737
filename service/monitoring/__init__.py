"""What is watched while serving."""
