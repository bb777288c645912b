"""Ringkeeper."""
