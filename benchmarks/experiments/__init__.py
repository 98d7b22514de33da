"""One question a file: its docstring says the question, the paper's table, the expected numbers and the cost; `runs(profile)` gives its rows.

Importing one imports no torch and reads nothing.
"""

DEFAULT = (
    "encoders",
    "show_attend_tell",
    "convnext_versions",
    "learning_rates",
    "teacher_forcing",
    "attention",
    "protocols",
    "loss_parts",
    "systems",
)
ABLATIONS = ("published_or_corrected", "systems_ablations", "augmentation", "shipped")  # run_all.py --all, or by name
NAMES = DEFAULT + ABLATIONS
