"""How much anybody may ask of the server: one table of everything that the doors and Gradio are bounded by.

What one picture may be stands with the request (`pipelines/request.py`), and how many jobs may wait in
`app/settings.py`; docs/security.md shows all of them.
"""

MAX_BODY_BYTES = 32 * 2**20
MAX_FILE_BYTES = 24 * 2**20
MAX_LOGIN_BYTES = 16 * 2**10
LOGIN_SECONDS = 10  # in which a stranger's form has to have come
# Requests that are being answered at one moment, event streams among them. A browser opens six at once.
MAX_OPEN_PER_PERSON = 64
MAX_OPEN_IN_ALL = 512
# How many viewers may wait in Gradio's queue; the pictures wait in app/jobs.py, which has its own limits.
MAX_WAITING_VIEWERS = 64
MAX_THREADS = 40
MAX_SESSIONS_WITH_STATE = 500
# Uploads, and pictures that a page has shown, go from Gradio's cache after two days.
CACHE_LOOK_SECONDS, CACHE_SECONDS = 3600, 2 * 24 * 3600

# A session ends a week after it began, and when it was not used for a day.
SESSION_SECONDS = 7 * 24 * 3600
SESSION_IDLE_SECONDS = 24 * 3600
MAX_SESSIONS = 1000
# A program that sends its password with every request pays for scrypt once in this time.
REMEMBERED_PASSWORD_SECONDS = 600
MAX_REMEMBERED_PASSWORDS = 256
# Wrong passwords within the window. Where a person came in before, only their own wrong ones there count.
ATTEMPT_WINDOW_SECONDS = 300
MAX_ATTEMPTS_PER_ADDRESS = 5
MAX_ATTEMPTS_PER_NAME = 20
MAX_ATTEMPTS_IN_ALL = 60
MAX_KNOWN_PLACES = 1000
# 32 MiB and a core for each password that is being looked at.
PASSWORDS_AT_ONCE = 1
