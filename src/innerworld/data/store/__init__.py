"""The store: a folder of whole episodes; `store.py` is where to begin."""
