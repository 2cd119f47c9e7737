"""The ways in: each translates one protocol; none decides."""
