"""`ratify constitution edit`: a local page on which a constitution is edited, with what each edit costs and changes."""
