"""What the text towers of the tests are made from."""

WORDS = [
    "black-and-tan",
    "white",
    "sable",
    "dog",
    "alsatian",
    "german",
    "shepherd",
    "puppy",
    "beach",
    "snow",
    "sitting",
    "lying",
    "night",
    "moonlight",
    "at",
]
CAPTIONS = ["", "a white dog", "An Alsatian lying on the beach at night, moonlight", "snow " * 60]
VIT_CFG = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 3},
    "quick_gelu": True,
}
