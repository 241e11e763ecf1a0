"""What notebooks need beside the other rooms: size, small pictures, sliders, a look at a run under way."""
