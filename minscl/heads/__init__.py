"""The discriminative systems of the paper's Table 1: heads that give every code of a closed list a probability.

    note → tokens → overlapping windows → decoder (LoRA) → hidden states (T, C) → head → logit and attention per code

    plm-icd   label-wise attention (Huang et al. 2022)                              label_attention.py
    plm-ca    label cross-attention, explained by AttInGrad (Edin et al. 2024)      cross_attention.py, evidence.py
    gki-icd   plm-ca trained on descriptions, synonyms, hierarchy (Zhang 2025)      knowledge.py

deviates, all three: their encoder is a RoBERTa pretrained on clinical text, all of whose weights are trained; here it
is the decoder, trained through LoRA or left as it is (frozen.py), causal or (--bidirectional) with the same weights
attending to both sides.

Read next: label_attention.py; windows.py for the hidden states; train.py and predict.py.
"""
