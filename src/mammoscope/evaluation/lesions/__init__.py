"""Lesions found and outlined: FROC, average precision and overlap, from tables alone."""
