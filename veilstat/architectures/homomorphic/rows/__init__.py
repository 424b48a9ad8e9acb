"""Ciphertexts of rows: an epoch, in which owners make a key and upload under it, and queries on what they uploaded; BGV."""
