"""A workbench for GigaGAN, the text-conditional GAN (Kang et al. 2023, arXiv 2303.05511)."""

__version__ = "0.1.0"
