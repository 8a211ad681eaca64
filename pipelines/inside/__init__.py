"""What happens while a model draws, made to be looked at.

attention.py writes cross-attention out, words.py makes a map of each word of it, recording.py draws a picture
again and keeps all of it, branch.py goes on from the middle, walk.py from one picture to another.
"""
