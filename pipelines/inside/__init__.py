"""What happens while a model draws, made to be looked at.

attention.py writes cross-attention out, words.py makes a map of each word of it, recording.py draws a picture
again, from the start or from a step, and keeps all of it, views.py shows latents, walk.py goes from one to
another.
"""
