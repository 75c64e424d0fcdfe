"""The demo world: a small assistant world in which the truth about every reply can be computed.

Requests and replies come from a grammar, an oracle reads the truth of every property back from the text alone, and a
tiny policy and a tiny judge are really trained here. The judge labels, the oracle only measures. Nothing is imported
at package level, so that the grammar and the oracle stay usable without torch.
"""
