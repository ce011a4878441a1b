"""The paper's experiments in miniature, and the making of the embedded model."""
