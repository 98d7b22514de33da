"""How much of the paper's "18 % lower loss" is arithmetic?

The logged loss is cross-entropy plus the attention penalty, the mean over P regions of (1 - sum of the attention over T words)^2, which cannot fall below
(1 - T/P)^2: with T = 11.5 that is 0.586 at 7x7 and 0.886 at 14x14. The paper's models have 7x7 regions, its baselines' code keeps 14x14, so about 0.30 of the
reported 0.63 may be the grid. Here the profile's main row at both grids (on the demo 8x8 and 4x4): loss beside its two parts and the penalty's floor.
Cost: one row more than `encoders`; 14x14 regions take about twice as long to train on.
"""

from dataclasses import replace

from benchmarks.experiments.encoders import main_row


def runs(profile) -> list:
    """(label, configuration) of each row."""
    label, main = main_row(profile)
    own, other = (8, 4) if profile.name == "demo" else (7, 14)
    rows = [(f"{label}, {own}x{own}", main), (f"{label}, {other}x{other}", replace(main, name=f"{main.name}-grid{other}", grid=other))]
    return rows
