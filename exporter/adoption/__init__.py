"""Reading and re-wrapping policies that other libraries trained; `exporter.adopt` joins it up."""
