"""The tables of an atlas, which is one SQLite file.

An atlas is known by its ``application_id`` and the version of its tables by its ``user_version``.
Every table can be read with any SQLite client: ``SELECT layer, channel, max FROM feature ORDER BY
max DESC``. Features have a number through all layers (``feature.id``); other tables name them by
it, and the views ``examples``, ``histograms``, ``class_responses`` and
``correlations`` name them by layer and channel.
"""

from rot180.atlas.statistics import STATISTICS

APPLICATION_ID = 0x72313830
"""The letters r180."""

VERSION = 4

_TABLES = """
-- What was scanned, and how: one fact a row, values in JSON.
CREATE TABLE metadata (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

-- The layers, in the order of the network.
CREATE TABLE layer (
  name TEXT PRIMARY KEY,
  number INTEGER NOT NULL UNIQUE,
  kind TEXT NOT NULL,            -- convolution, depthwise convolution, linear, ...
  rectifier TEXT NOT NULL,       -- ReLU, ...; '' where there is none
  channels INTEGER NOT NULL,
  height INTEGER NOT NULL,       -- of its maps
  width INTEGER NOT NULL,
  field_height INTEGER NOT NULL,  -- receptive field of a unit far from the border, in pixels
  field_width INTEGER NOT NULL,
  stride_y REAL NOT NULL,         -- distance of the fields of neighbouring units, in pixels
  stride_x REAL NOT NULL,
  samples INTEGER NOT NULL       -- positions sampled on each image, for colours and correlations
) WITHOUT ROWID;

-- What each row (axis 0) and column (axis 1) of a layer's maps sees of the image: rows or columns
-- from start to stop, exclusive.
CREATE TABLE receptive_field (
  layer TEXT NOT NULL REFERENCES layer (name),
  axis INTEGER NOT NULL,
  position INTEGER NOT NULL,     -- number of the row or column, from 0
  start INTEGER NOT NULL,
  stop INTEGER NOT NULL,
  PRIMARY KEY (layer, axis, position)
) WITHOUT ROWID;

-- The features, with their statistics. NULL: undefined (a feature that never varies, no classes).
CREATE TABLE feature (
  id INTEGER PRIMARY KEY,
  layer TEXT NOT NULL REFERENCES layer (name),
  channel INTEGER NOT NULL,
  @STATISTICS@
  UNIQUE (layer, channel)
);

-- The images that excite each feature most, best first.
CREATE TABLE example (
  feature INTEGER NOT NULL REFERENCES feature (id),
  rank INTEGER NOT NULL,         -- from 0
  image INTEGER NOT NULL REFERENCES image (number),
  activation REAL NOT NULL,
  strength REAL NOT NULL,        -- what ranks it: the activation; before a rectifier that has an
                                 -- upper limit, as ReLU6 has, the value before it
  y INTEGER NOT NULL,            -- position of the peak in the map
  x INTEGER NOT NULL,
  top INTEGER NOT NULL,          -- its receptive field in the image, cut to it; bottom and right
  "left" INTEGER NOT NULL,       -- are exclusive
  bottom INTEGER NOT NULL,
  "right" INTEGER NOT NULL,
  PRIMARY KEY (feature, rank)
) WITHOUT ROWID;

-- The effective receptive fields of examples, as far as they were measured: the smallest square
-- that holds 80 % of the energy of the projection; bottom and right are exclusive.
CREATE TABLE effective_field (
  feature INTEGER NOT NULL REFERENCES feature (id),
  rank INTEGER NOT NULL,
  top INTEGER NOT NULL,
  "left" INTEGER NOT NULL,
  bottom INTEGER NOT NULL,
  "right" INTEGER NOT NULL,
  PRIMARY KEY (feature, rank)
) WITHOUT ROWID;

-- How many images have their peak between low (inclusive) and high; bins without images are not
-- here. NULL: no bound.
CREATE TABLE histogram (
  feature INTEGER NOT NULL REFERENCES feature (id),
  rank INTEGER NOT NULL,         -- number of the bin, from the lowest
  low REAL,
  high REAL,
  images INTEGER NOT NULL,
  PRIMARY KEY (feature, rank)
) WITHOUT ROWID;

-- The classes on which each feature is strongest, best first.
CREATE TABLE class_response (
  feature INTEGER NOT NULL REFERENCES feature (id),
  rank INTEGER NOT NULL,
  class INTEGER NOT NULL REFERENCES class (number),
  mean_peak REAL NOT NULL,
  PRIMARY KEY (feature, rank)
) WITHOUT ROWID;

-- The features of the same layer that are most, and least, correlated with each, best first.
CREATE TABLE correlation (
  feature INTEGER NOT NULL REFERENCES feature (id),
  rank INTEGER NOT NULL,
  other INTEGER NOT NULL REFERENCES feature (id),
  correlation REAL NOT NULL,
  PRIMARY KEY (feature, rank)
) WITHOUT ROWID;

CREATE TABLE class (number INTEGER PRIMARY KEY, name TEXT NOT NULL, images INTEGER NOT NULL);

-- The images that are examples of any feature, as the network takes them (before normalisation).
CREATE TABLE image (
  number INTEGER PRIMARY KEY,    -- in the data set
  name TEXT NOT NULL,
  class INTEGER REFERENCES class (number),
  picture BLOB                   -- a PNG or WebP file; NULL where pictures were not wanted
);

-- Images that could not be read.
CREATE TABLE skipped (image INTEGER PRIMARY KEY, name TEXT NOT NULL, reason TEXT NOT NULL);

-- The peaks of all features on some of the images: little-endian half floats, in scales of the
-- layer, in the order of sample_image. Two atlases over the same data are compared by them.
CREATE TABLE sample_image (position INTEGER PRIMARY KEY, image INTEGER NOT NULL);
CREATE TABLE sample (layer TEXT PRIMARY KEY REFERENCES layer (name), scale REAL NOT NULL,
  peaks BLOB NOT NULL) WITHOUT ROWID;

-- The ranges of images that are to be scanned here, and how far each has come.
CREATE TABLE progress (first INTEGER PRIMARY KEY, stop INTEGER NOT NULL, next INTEGER NOT NULL);

-- The running state, little-endian arrays; empty once the scan is complete.
CREATE TABLE state (name TEXT PRIMARY KEY, type TEXT NOT NULL, shape TEXT NOT NULL,
  numbers BLOB NOT NULL);

CREATE VIEW examples AS SELECT layer, channel, rank, image, activation, strength, y, x,
  top, "left", bottom, "right" FROM example JOIN feature ON feature = id;
CREATE VIEW class_responses AS SELECT layer, channel, rank, name AS class,
  class_response.mean_peak
  FROM class_response JOIN feature ON feature = id JOIN class ON class = number;
CREATE VIEW correlations AS SELECT one.layer, one.channel, rank, two.channel AS other, correlation
  FROM correlation JOIN feature AS one ON feature = one.id JOIN feature AS two ON other = two.id;
CREATE VIEW histograms AS SELECT layer, channel, low, high, images FROM histogram JOIN feature
  ON feature = id;
"""


def _statistic_columns() -> str:
    """Return the columns of the statistics, each with its comment."""
    return "\n".join(
        f"  {statistic.column + ',':<30} -- {statistic.note}" for statistic in STATISTICS
    )


TABLES = _TABLES.replace("  @STATISTICS@", _statistic_columns())
"""The statements that make an empty atlas."""
