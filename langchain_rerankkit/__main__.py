"""``python -m langchain_rerankkit``."""

import sys

from langchain_rerankkit.cli import main

sys.exit(main())
