"""The language of prompts, AUTOMATIC1111's, in the order in which it is read:

expand.py puts in styles (styles.py) and draws words (wildcards.py), lora.py takes the tags out, compose.py
splits at AND, schedule.py says what is read in which step, attention.py weighs the words, embeddings.py finds
learned ones, chunks.py makes tokens of them, encode.py states, and conditions.py hands each step its own.
Nothing malformed ever fails.
"""
