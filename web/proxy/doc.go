// Package proxy lets people and programs reach what listens inside an instance:
// its service, at /gpu-instances/{id}/service/…, open to everybody if its account
// wants that and else to members; and its Jupyter, at /gpu-instances/{id}/jupyter/…,
// for members alone.
//
// What is behind it is hostile by assumption: anybody who may launch an instance
// decides what its pages are. The rules, each with a test:
//
//   - No page of an instance has the console's origin, nor that of another
//     instance. Every service and every Jupyter has a host of its own
//     (instance-3.…, jupyter-3.…, below the pattern of [Origins]), and whoever
//     opens one of the paths above in a browser is sent there. What the same
//     origin would allow, acting with a visitor's cookies or reading another's
//     notebook, the browser then refuses.
//   - Programs are answered at the path itself. Such an answer, should a browser
//     show it all the same, is sandboxed by its Content-Security-Policy, sets no
//     cookie, and no browser gets it as a script, a worker or a frame.
//   - Where there is no pattern, since nobody gave the box a wildcard name, a
//     browser gets public services at their path, sandboxed: with scripts, without
//     cookies, storage or an origin. Jupyter and closed services then say what the
//     operator has to set.
//   - The console's cookie never goes to an instance's host. A member is handed
//     over by a ticket in the URL, good once, for a minute and for one host, and
//     gets a pass there: a cookie of that host alone, which ends with the session
//     that it came from. A key file signs it, so that it outlives this process.
//   - A pass is good for requests of its host's own pages, and for following a
//     link to them. Another instance's page is on the same site, for which a
//     browser sends cookies along: its requests are refused by their Origin and
//     Sec-Fetch-Site.
//   - Cookies of ours and API keys never reach the container; whatever it says
//     about cookies of ours, other hosts or the browser's state of the whole site
//     does not come out, nor what it says before its answer (1xx). Jupyter's token
//     is added here and seen by nobody.
//   - Who asks is told to the container anew, in X-Forwarded-…; what the outside
//     says about that is dropped.
//   - A stranger can't tell an instance that is closed from one that never was.
//   - An open connection ends soon after the right to it: closed by the account,
//     signed out, no member any more.
//
// Connections are made from inside the container's own network, and to its
// loopback first: a service need not listen for others, and no other container can
// reach it but as the rest of the world does.
//
// Bodies stream in both directions; nothing is kept, retried or cached here.
// cmd/ecolink puts it in front of the console and the API. It knows who is a
// member from package identity, and what is open from the scheduler.
package proxy
