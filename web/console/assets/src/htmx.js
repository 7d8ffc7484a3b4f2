// htmx under a policy that allows no inline styles and no eval.
import htmx from "htmx.org";

htmx.config.includeIndicatorStyles = false; // ours are in console.css
htmx.config.allowEval = false;
htmx.config.selfRequestsOnly = true;
htmx.config.historyCacheSize = 0; // pages hold secrets and do not belong in localStorage
// A refusal is shown where its answer would have been: the server renders it.
htmx.config.responseHandling = [
  { code: "204", swap: false },
  { code: "...", swap: true },
];

export default htmx;
