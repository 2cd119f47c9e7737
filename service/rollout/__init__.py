"""Which version serves: the repository, the ledger's fold, the loader."""
