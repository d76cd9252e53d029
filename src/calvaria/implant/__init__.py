"""Implants: from the missing bone to what is made and put in."""
