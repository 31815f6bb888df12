"""Coverage of the intervals of R@1 over several seeds, by simulation."""
