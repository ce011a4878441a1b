"""Readers of public corpora (Eq. 4): codes with evidence (mdace.py), codes only (mimic_iv.py, aci_bench.py)."""
