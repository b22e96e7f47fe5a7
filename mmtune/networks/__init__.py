"""Architectures: a configuration in, a module out; every forward takes (image, audio) and returns an Output."""
