// Numbers and moments as people read them.

const UNITS = ["B", "kB", "MB", "GB", "TB"];

export function bytes(count) {
  let value = count;
  let unit = 0;
  while (value >= 999.5 && unit < UNITS.length - 1) {
    value /= 1000;
    unit += 1;
  }
  const digits = unit === 0 || value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2;
  return `${value.toFixed(digits)} ${UNITS[unit]}`;
}

export function size(width, height) {
  return width && height ? `${width} × ${height}` : "";
}

/** What a file saves against another one, as a share: 0.25 is a quarter less, -1 is twice as much. */
export function saved(before, after) {
  return before ? 1 - after / before : 0;
}

export function percent(share) {
  const value = Math.abs(share) * 100;
  const rounded = value > 99 && value < 100 ? value.toFixed(1) : Math.round(value);
  return `${rounded} %`;
}

export function savedText(before, after) {
  const share = saved(before, after);
  if (Math.abs(share) < 0.005) return "same size";
  return share > 0 ? `${percent(share)} smaller` : `${percent(share)} larger`;
}

export function seconds(value) {
  if (value < 0.95) return `${Math.max(1, Math.round(value * 1000))} ms`;
  if (value < 59.5) return `${value.toFixed(value < 9.95 ? 1 : 0)} s`;
  const minutes = Math.floor(value / 60);
  if (minutes < 60) return `${minutes} min ${Math.round(value % 60)} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

const MOMENT = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const DAY = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });

export function moment(text) {
  return MOMENT.format(new Date(text));
}

/** How long ago something was, or when, if that was not today. */
export function ago(text, now = Date.now()) {
  const past = (now - new Date(text).getTime()) / 1000;
  if (past < 10) return "just now";
  if (past < 60) return `${Math.floor(past)} s ago`;
  if (past < 3600) return `${Math.floor(past / 60)} min ago`;
  if (past < 86400) return `${Math.floor(past / 3600)} h ago`;
  return DAY.format(new Date(text));
}

/** How long until something happens. */
export function until(text, now = Date.now()) {
  const left = (new Date(text).getTime() - now) / 1000;
  if (left <= 0) return "now";
  if (left < 3600) return `in ${Math.max(1, Math.round(left / 60))} min`;
  if (left < 172800) return `in ${Math.round(left / 3600)} h`;
  return `in ${Math.round(left / 86400)} days`;
}

const ABBREVIATIONS = /\b(dpr|gps|icc|ssim|url)\b/g;

/** `keep_metadata` as "Keep metadata", `min_ssim` as "Min SSIM". */
export function words(name) {
  const text = name.replaceAll("_", " ").replace(ABBREVIATIONS, (letters) => letters.toUpperCase());
  return text.charAt(0).toUpperCase() + text.slice(1);
}

export function plural(count, one, many = `${one}s`) {
  return `${count} ${count === 1 ? one : many}`;
}
