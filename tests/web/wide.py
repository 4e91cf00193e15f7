"""An atlas with a layer of very many features, of which only the statistics are made up."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

from tests.atlas.scans import scanned


def wide_atlas(path: Path, features: int) -> Path:
    """Scan a small network, and give its layer 'head' that many features."""
    scanned(path)
    with closing(sqlite3.connect(path)) as file, file:
        ((told,),) = file.execute("SELECT value FROM metadata WHERE key = 'index'").fetchall()
        index = json.loads(told)
        before = index["layers"][2][1]
        index["layers"][2][1] = features
        file.execute("UPDATE metadata SET value = ? WHERE key = 'index'", (json.dumps(index),))
        file.execute("UPDATE layer SET channels = ? WHERE name = 'head'", (features,))
        ((columns,),) = file.execute("SELECT COUNT(*) FROM pragma_table_info('feature')").fetchall()
        ((first,),) = file.execute("SELECT MAX(id) + 1 FROM feature").fetchall()
        rows = (
            (
                first + n - before,
                "head",
                n,
                *(((n * k * 7919) % 100_003) / 100_003 for k in range(1, 6)),
                0,
                ((n * 31) % 1009) / 1009,
                n % 5 % 4,
                *(((n * k * 104_729) % 100_003) / 100_003 for k in range(6, columns - 5)),
            )
            for n in range(before, features)
        )
        file.executemany(f"INSERT INTO feature VALUES ({', '.join('?' * columns)})", rows)
        ((images,),) = file.execute("SELECT COUNT(*) FROM sample_image").fetchall()
        file.execute(
            "UPDATE sample SET peaks = zeroblob(?) WHERE layer = 'head'", (2 * images * features,)
        )
    return path
