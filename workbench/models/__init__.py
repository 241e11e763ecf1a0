"""The networks: text encoder, T and M, the generator, the discriminators, and their named sizes."""
