"""What earlier releases wrote, byte for byte; `write` makes the present one's."""
