"""Cohorts: images and labels from any source, prepared pixels, patient-grouped splits."""
