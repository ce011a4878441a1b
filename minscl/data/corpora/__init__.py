"""Readers of public corpora (Eq. 4): codes with evidence (mdace.py), codes alone (mimic_iv.py, aci_bench.py)."""
