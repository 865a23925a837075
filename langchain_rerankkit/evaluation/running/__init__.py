"""Systems taken apart into stages, and the stages asked: here or on a cluster, with every answer kept."""
