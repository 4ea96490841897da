"""Families side by side: the same worlds, budget and questions, several seeds; one table and one page."""
