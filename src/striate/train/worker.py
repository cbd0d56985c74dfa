"""One of several processes of a run: `torchrun … -m striate.train.worker CONFIG ANSWER RESUME QUIET`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from striate.errors import StriateError
from striate.train.fit import fit
from striate.train.recipe_files import make_recipe, read_recipe


def main() -> int:
    config, answer, resume, quiet = sys.argv[1:5]
    leads = os.environ["RANK"] == "0"
    try:
        run = fit(make_recipe(read_recipe(Path(config))), resume=Path(resume) if resume else None, quiet=bool(quiet))
    except StriateError as error:
        if leads:
            print(f"striate: {error}", file=sys.stderr)
        return error.exit_code
    if leads:
        Path(answer).write_text(str(run))
    return 0


if __name__ == "__main__":
    sys.exit(main())
