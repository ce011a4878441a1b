"""CodiEsp's evidence annotations, carried over from the Spanish cases to their English translations.

The corpus annotates the Spanish text; its machine translations have no offsets. `build` aligns sentences (sentences),
then words (alignment, by eflomal), and projects each annotated phrase onto the English sentence (projection, phrases).
`judge` draws the sample that is judged by hand and prints the result. docs/codiesp_en.md is the card.

Read next: corpus.py.
"""
