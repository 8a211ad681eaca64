"""Every word that the page shows, in one place; in other languages under the same names in languages/."""

import sys

from app.language import Spoken
from app.text.amounts import *
from app.text.drawing import *
from app.text.history import *
from app.text.inside import *
from app.text.models import *
from app.text.page import *
from app.text.training import *

sys.modules[__name__].__class__ = Spoken  # read as `text.NAME` while a page is built or a request answered
