"""What monitoring and the log cost a request."""
