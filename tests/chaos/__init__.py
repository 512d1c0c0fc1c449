"""Break everything at random, then count: nothing may be lost, and nothing planned twice."""
