"""Pictures drawn by Flux.1 Schnell from prompts of our own."""
