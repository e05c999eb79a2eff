"""Contenders in processes of their own, measured in turns, and the page that says what came out."""
