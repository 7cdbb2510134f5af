"""Model families, torchvision's models, stem and head surgery, and taps that read inner layers.

Kept free of imports: `kdrun.models.names` must not load torch. Start at `build.py` and `taps.py`.
"""
