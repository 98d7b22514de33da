"""One question a file: its docstring says the question, the paper's table, the expected numbers and the cost; `runs(profile)` gives its rows.

Importing one imports no torch and reads nothing.
"""

NAMES = ("encoders", "attention", "teacher_forcing")
