"""Readers of real corpora (Eq. 4): coded documents with evidence (mdace.py), and with codes alone (mimic_iv.py)."""
