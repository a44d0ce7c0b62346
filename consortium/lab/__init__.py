"""A consortium in memory, for attacks and measurements: no folder, no database, no Flower.

The rules of a round are the consortium's own (`consortium.rounds`), on records that hospitals
really sign and on patients of the task's own data. What is left out is what carries and keeps them:
blocks, witnesses, budgets on disk. Keys, salts and noise come from a seed, so runs can be repeated
and protect nobody. No deployment imports this package, but for the `catalogue` of cheats, which is
data: the demo's help lists it.
"""
