// A terminal's connection to its shell session, which outlives it: it counts the
// output that has arrived and, when it was cut off, asks for what follows, so
// that nothing is shown twice and nothing is missing.

const protocol = "ecolink.terminal.v1";
const fellBehind = 4001;
const retryMin = 250, retryMax = 10000; // milliseconds
const steadyAfter = 5000; // a connection that lasted this long was a good one
const pieceBytes = 32 << 10;
const silence = 8000; // the server says something every 3 s; longer silence is a dead connection
const ackBytes = 128 << 10; // the server is told that so much more has been shown
const hiddenBytes = 8 << 20; // a hidden page, which browsers slow down, may have so much still to show
const quiet = 300; // replayed output is over when nothing has come for this long

// What a terminal answers by itself when a program asks it something. While old
// output is replayed the question is an old one, and nobody waits for the answer.
const answers = /^(\x1b\[[?>=]?[\d;]*(R|c|n|\$y|t)|\x1b\][\s\S]*|\x1bP[\s\S]*)+$/;

export class Session {
  #term; #options; #socket = null; #timer = 0;
  #offset = -1; // of the next byte; -1: everything that is kept
  #shown = 0; #acked = 0; #heard = 0; // offsets, and when the server last said something
  #failures = 0; #openedAt = 0; #replaying = true; #quietTimer = 0; #over = false;
  #encoder = new TextEncoder();

  constructor(term, options) {
    this.#term = term;
    this.#options = options;
    term.onData((text) => this.#type(this.#encoder.encode(text), text));
    term.onBinary((text) => this.#type(Uint8Array.from(text, (c) => c.charCodeAt(0)), text));
    term.onResize(({ cols, rows }) => this.#send(JSON.stringify({ resize: { cols, rows } })));
    // A network that is back, a lid that was opened: the old connection may look
    // alive for minutes. A new one costs nothing, since it goes on where we are.
    addEventListener("online", () => this.#again());
    let hiddenAt = 0;
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) hiddenAt = Date.now();
      else if (hiddenAt && Date.now() - hiddenAt > 60000) this.#again();
    });
    setInterval(() => this.#listen(), 1000);
    addEventListener("offline", () => this.#options.show("reconnecting", "You are offline. The shell goes on without you."));
  }

  connect() {
    clearTimeout(this.#timer);
    this.#over = false;
    this.#drop();
    const { cols, rows } = this.#term;
    const url = new URL(this.#options.socket, location.href);
    url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    url.searchParams.set("from", this.#offset);
    url.searchParams.set("flow", 1);
    url.searchParams.set("cols", cols);
    url.searchParams.set("rows", rows);
    const socket = new WebSocket(url, protocol);
    socket.binaryType = "arraybuffer";
    this.#socket = socket;
    this.#openedAt = 0;
    let ended = false;
    this.#heard = Date.now();
    socket.onopen = () => { this.#openedAt = this.#heard = Date.now(); };
    socket.onmessage = ({ data }) => {
      if (socket !== this.#socket) return;
      this.#heard = Date.now();
      if (typeof data !== "string") return this.#output(new Uint8Array(data));
      const news = JSON.parse(data);
      if (news.ended) ended = true;
      if (news.start !== undefined) this.#begin(news.start, news.prologue);
      if (news.window) this.#options.window?.(news.window);
    };
    socket.onclose = ({ code }) => {
      if (socket !== this.#socket) return;
      this.#socket = null;
      if (ended) this.#ended();
      else this.#lost(code);
    };
  }

  // begin compares where the server starts with where we are.
  #begin(start, prologue) {
    if (this.#offset >= 0 && start !== this.#offset) {
      this.#term.reset(); // another session, or output that is no longer kept
      if (start > this.#offset) this.#term.write("\x1b[2m[some output was lost]\x1b[0m\r\n");
    }
    if (this.#offset !== start) this.#replay();
    if (prologue) this.#term.write(prologue);
    this.#offset = this.#shown = this.#acked = start;
    this.#options.show("connected");
    this.#options.window?.({ cols: this.#term.cols, rows: this.#term.rows });
  }

  #output(bytes) {
    const end = (this.#offset += bytes.length), socket = this.#socket;
    this.#term.write(bytes, () => {
      if (socket !== this.#socket) return;
      this.#shown = end;
      this.#ack();
    });
    this.#ack();
    if (this.#replaying) this.#replay();
  }

  // ack says how far the output has been shown, so that the server sends no more
  // than the page can take.
  #ack() {
    const behind = this.#offset - this.#shown;
    const upTo = document.hidden && behind < hiddenBytes ? this.#offset : this.#shown;
    if (upTo - this.#acked < ackBytes) return;
    this.#acked = upTo;
    this.#send(JSON.stringify({ ack: upTo }));
  }

  // listen finds a connection that died without a word.
  #listen() {
    if (this.#socket && Date.now() - this.#heard > silence) {
      this.#drop();
      this.#lost(0);
    }
  }

  #replay() {
    this.#replaying = true;
    clearTimeout(this.#quietTimer);
    this.#quietTimer = setTimeout(() => this.#term.write("", () => { this.#replaying = false; }), quiet);
  }

  #type(bytes, text) {
    if (this.#replaying && answers.test(text)) return;
    for (let at = 0; at < bytes.length; at += pieceBytes) this.#send(bytes.subarray(at, at + pieceBytes));
  }

  #send(message) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(message);
  }

  #drop() {
    const socket = this.#socket;
    this.#socket = null;
    socket?.close();
  }

  #again() {
    if (this.#over) return;
    this.#failures = 0;
    this.connect();
  }

  #ended() {
    this.#over = true;
    this.#offset = -1;
    this.#options.show("ended", "The shell has ended.", {
      label: "Start a new shell", focus: true,
      run: () => { this.#term.reset(); this.#options.show("connecting"); this.connect(); },
    });
  }

  async #lost(code) {
    const opened = this.#openedAt > 0;
    if (opened && Date.now() - this.#openedAt > steadyAfter) this.#failures = 0;
    if (code === fellBehind) this.#failures = 0;
    const wait = code === fellBehind ? 0 : Math.min(retryMax, retryMin * 2 ** this.#failures++) * (0.75 + Math.random() / 2);
    if (code !== fellBehind) {
      this.#options.show("reconnecting", "Connection lost. Reconnecting… The shell goes on without you.",
        { label: "Try now", run: () => this.#again() });
    }
    this.#timer = setTimeout(() => this.connect(), wait);
    if (!opened) await this.#why();
  }

  // why asks what a failed handshake does not tell: whether trying is any use.
  async #why() {
    let answer;
    try {
      answer = await fetch(this.#options.status, { headers: { Accept: "application/json" }, cache: "no-store" });
      if (answer.status >= 500) return;
      const { message } = await answer.json();
      if (answer.ok) return;
      clearTimeout(this.#timer);
      this.#over = true;
      const signIn = answer.status === 401;
      this.#options.show("ended", message.charAt(0).toUpperCase() + message.slice(1), {
        label: signIn ? "Sign in" : "Back to the instance", focus: true,
        run: () => { location.href = signIn ? location.href : this.#options.status.replace(/\/terminal\/status.*/, ""); },
      });
    } catch { /* no network: keep trying */ }
  }
}
