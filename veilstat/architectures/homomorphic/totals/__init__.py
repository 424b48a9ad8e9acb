"""Ciphertexts of totals: a key for every opening (Mouchet et al., 2021; t of n: 2022), and BFV."""
