"""Search your own images: an index of their embeddings, and what reads and searches it."""
