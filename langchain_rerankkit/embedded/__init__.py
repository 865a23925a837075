"""The model that ships in the package, all-MiniLM-L6-v2 with int8 weights, and its loader.

The public class is `langchain_rerankkit.EmbeddedEmbeddings`; ``MODEL_CARD.md`` beside this file says what the model is,
how it was made and how well it does, and ``NOTICE`` whose work it is.
"""
