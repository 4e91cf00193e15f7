// What all pages load; each module looks for its own part of the page. Lessons load theirs besides.

import "./shortcuts.js";
import "./upload.js";
import "./compare.js";
import "./images.js";
import "./layer.js";
import "./image.js";
import "./network.js";
import "./rules.js";
import "./save-picture.js";
import "./search.js";
import "./state.js";
import "./status.js";
