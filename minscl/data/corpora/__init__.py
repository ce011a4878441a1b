"""Readers of public corpora (Eq. 4): with evidence (mdace.py, codiesp.py, aci_bench.py), codes only (mimic_iv.py)."""
