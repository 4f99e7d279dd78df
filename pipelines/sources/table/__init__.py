"""The table source: a CSV that names the files and what is known of them."""
