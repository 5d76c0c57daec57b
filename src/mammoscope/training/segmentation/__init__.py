"""Segmentation: whole images or patches, losses of masks, and the task."""
