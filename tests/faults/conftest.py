"""One tiny data set and CLIP for all faults; one thread, because bits are compared."""

import tiny_fixtures

inputs = tiny_fixtures.inputs
one_thread = tiny_fixtures.one_thread
