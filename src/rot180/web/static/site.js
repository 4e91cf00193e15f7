// The one script that pages load; each module looks for its own part of the page.

import "./keys.js";
