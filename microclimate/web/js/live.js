// The one event stream of the page, and what the page may say of itself: it is live only while
// the server is heard and readings are new.

/**
 * @typedef {import("./api.js").ZoneState} ZoneState
 * @typedef {"connecting" | "open" | "lost"} Link
 */

/** The server sends a beat every 10 s; after so long without a word the link counts as lost. */
const SILENCE_MS_MAX = 25_000;
const RETRY_MS = [1000, 2000, 5000, 10_000];

/**
 * Sends `zones` (changed states), `counts` (zones by level), `alerts` (active alerts have changed)
 * and `link` (the stream's state).
 */
class LiveStates extends EventTarget {
  constructor() {
    super();
    /** @type {Link} */
    this.link = "connecting";
    /** When the server was last heard, by this computer's clock. */
    this.heardMs = 0;
    /** The server's clock less this computer's. */
    this.skewMs = 0;
    /** The newest event time of any zone, by the server's clock. */
    this.newestMs = 0;
    /** Age beyond which readings are none of now. */
    this.staleAfterS = 900;
    /** @type {EventSource | null} */
    this.source = null;
    /** Alerts that fire and that nobody has acknowledged. */
    this.firing = 0;
    this.path = "";
    this.failures = 0;
    this.retry = 0;
    setInterval(() => this.watch(), 5000);
    addEventListener("online", () => this.open(this.path));
    addEventListener("offline", () => {
      this.source?.close();
      this.lose();
    });
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden && this.link === "lost") this.open(this.path);
    });
  }

  /** Now, by the server's clock. */
  nowMs() {
    return Date.now() + this.skewMs;
  }

  /** @param {number} nowMs the server's clock */
  synchronise(nowMs) {
    this.skewMs = nowMs - Date.now();
    this.hear();
  }

  hear() {
    this.heardMs = Date.now();
    this.failures = 0;
    this.setLink("open");
  }

  /**
   * Opens the stream, in place of an earlier one.
   * @param {string} path
   */
  open(path) {
    clearTimeout(this.retry);
    this.source?.close();
    this.path = path;
    if (!path) return;
    const source = new EventSource(path);
    this.source = source;
    source.addEventListener("open", () => this.hear());
    source.addEventListener("beat", (event) => {
      const { now_ms, newest_ms, stale_after_s } = JSON.parse(event.data);
      this.note(newest_ms);
      this.staleAfterS = stale_after_s;
      this.synchronise(now_ms);
    });
    source.addEventListener("zones", (event) => {
      /** @type {ZoneState[]} */
      const zones = JSON.parse(event.data);
      for (const { at_ms } of zones) this.note(at_ms);
      this.hear();
      this.dispatchEvent(new CustomEvent("zones", { detail: zones }));
    });
    source.addEventListener("counts", (event) => {
      this.hear();
      this.dispatchEvent(new CustomEvent("counts", { detail: JSON.parse(event.data) }));
    });
    source.addEventListener("alerts", (event) => {
      this.hear();
      this.firing = JSON.parse(event.data).firing;
      this.dispatchEvent(new Event("alerts"));
    });
    source.addEventListener("error", () => {
      if (this.source !== source) return;
      source.close();
      this.lose();
      const wait = RETRY_MS[Math.min(this.failures, RETRY_MS.length - 1)];
      this.failures += 1;
      this.retry = setTimeout(() => this.open(this.path), wait);
    });
  }

  close() {
    clearTimeout(this.retry);
    this.source?.close();
    this.source = null;
    this.path = "";
  }

  /** @param {number | null} atMs */
  note(atMs) {
    if (atMs != null && atMs > this.newestMs) this.newestMs = atMs;
  }

  lose() {
    this.setLink("lost");
  }

  watch() {
    const isSilent = Date.now() - this.heardMs > SILENCE_MS_MAX;
    if (this.path && this.link === "open" && isSilent) {
      this.lose();
      this.open(this.path);
    }
    this.dispatchEvent(new Event("link"));
  }

  /** @param {Link} link */
  setLink(link) {
    const before = this.link;
    this.link = link;
    if (before === link) return;
    this.dispatchEvent(new Event("link"));
    if (link === "open" && before === "lost") this.dispatchEvent(new Event("recovered"));
  }
}

export const live = new LiveStates();
