"""What retraining makes of a mediocre policy's log, and whether its gate can be believed."""
