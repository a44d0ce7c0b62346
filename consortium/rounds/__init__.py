"""The rules of a round: pure functions of values that every member recomputes.

In the order of a round: `commitment` (what binds a hospital before it shows its update),
`checks` (1 to 7, deterministic, the same at every member), `score` (check 8 and the score, on a
validator's own patients), `shapley`, `verdict`, then `result`, which joins the verdicts, with
`aggregation` and `rewards`.
"""
