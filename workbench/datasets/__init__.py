"""Pictures to train on: Shepherd World, its captions, folders and batches."""
