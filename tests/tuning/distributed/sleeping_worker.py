"""A worker process that sleeps instead of training: sleeping_worker.py ADDRESS --name NAME."""

import json
import os
import sys
from pathlib import Path

from keras_dl.tuning.distributed import supervisor

supervisor.hold()
sys.path.insert(0, str(Path(__file__).parent))

from served import IDENTITY, run_all  # noqa: E402

from keras_dl.tuning.distributed.client import ChiefClient  # noqa: E402

died = json.loads(os.environ.get("KERAS_DL_DIED", "null"))
run_all(ChiefClient(sys.argv[1], sys.argv[3], IDENTITY, died, supervisor.tell_begun), [], epochs=4, pause=0.15)
