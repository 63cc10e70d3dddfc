"""Doors to other libraries; each is imported where it is used."""
