"""ViT: a transformer over the patches of an image, which shows what it looks at."""
