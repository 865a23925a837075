"""Language models as judges: which passages they compare when, what they are asked, and what they said. Pure."""
