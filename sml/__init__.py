"""The Secure Mapping Layer of PoLe: an orthogonal map that only one institution can have drawn.

Importing the package costs nothing. `vrf` and `alpha` need PyNaCl and the standard library only,
so an auditor without torch can still recompute from what a round's mapping was drawn.
"""
