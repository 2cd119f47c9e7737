"""Programs for the libraries' own environments."""
