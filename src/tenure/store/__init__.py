"""What is kept: the ledger of experience, memories, versions with their attestations, keys, nights and artefacts."""
