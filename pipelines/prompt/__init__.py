"""The language of prompts, AUTOMATIC1111's, in the order in which it is read:

styles.py and wildcards.py replace what a person typed (expand.py does both), lora.py takes the tags out, then
compose.py splits at AND, schedule.py says what is read in which step, attention.py weighs the words, chunks.py
counts their tokens and encode.py makes the states. Nothing that is malformed fails.
"""
