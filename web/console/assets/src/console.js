// Every page's script. Pages can be read and their forms sent without it.
import "./htmx.js";
import { start as startCopying } from "./copy.js";
import { start as startDialogs } from "./dialog.js";
import { start as startHours } from "./hours.js";
import { start as startLive } from "./live.js";
import { start as startLogs } from "./logs.js";
import { start as startPrinting } from "./print.js";
import { start as startTimes } from "./times.js";

document.documentElement.classList.add("scripted");
startTimes();
startLive();
startLogs();
startDialogs();
startHours();
startCopying();
startPrinting();
