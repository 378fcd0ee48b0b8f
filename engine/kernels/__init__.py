"""Bare arrays in, bare arrays out; nothing here knows labels, files or workers."""
