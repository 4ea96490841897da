"""The world model as a source of plausible futures."""
