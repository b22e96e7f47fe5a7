"""mmtune: tune, track, promote and serve small multimodal digit classifiers."""

__version__ = "0.1.0"
