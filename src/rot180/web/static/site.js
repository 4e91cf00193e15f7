// What all pages load; each module looks for its own part of the page. Lessons load theirs besides.

import "./keys.js";
import "./bring.js";
import "./comparing.js";
import "./images.js";
import "./layer.js";
import "./looking.js";
import "./network.js";
import "./rules.js";
import "./saving.js";
import "./search.js";
import "./state.js";
import "./status.js";
