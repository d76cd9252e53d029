"""Completing a skull: the common box, the engines, and the way back to the input's grid."""
