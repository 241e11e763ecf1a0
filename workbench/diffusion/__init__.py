"""The other way to a picture: a diffusion model of G's size on G's data, few-step students, the race."""
