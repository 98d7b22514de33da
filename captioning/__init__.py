"""The parts of ReCap: data, text, decoding, scores. Nothing here imports a root script."""
