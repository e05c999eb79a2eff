"""Charts: SVG for pages, PNG for single cells."""
