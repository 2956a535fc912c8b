"""What shmetrics costs and gives, beside its peers, on the machine at hand: `shmetrics bench`.

A scenario (`scenarios/`) is a module of one shape; a peer (`peers/`) says what the same work is with it. Figures are
ratios within one run whose rounds are interleaved; what noise hides is not said.
"""
