"""Parts of the web demo (app.py)."""
