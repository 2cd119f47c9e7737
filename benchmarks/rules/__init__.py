"""Whether the tests of the alert rules notice when a rule is changed."""
