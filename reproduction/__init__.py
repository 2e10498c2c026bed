"""What the paper's tables and figures are made of, piece by piece; ``reproduce.py`` makes them."""
