"""Search of one's own pictures: an index of their embeddings, and what reads and asks it."""
