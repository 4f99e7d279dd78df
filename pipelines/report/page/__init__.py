"""The page: sections, charts and pictures made into one HTML file."""
