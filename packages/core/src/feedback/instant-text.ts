/** The ways in which headers write instants and durations. None of these readers throws; what they cannot read is undefined. */

const months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const month = `(?<month>${months.join("|")})`;
const time = "(?<hour>\\d\\d):(?<minute>\\d\\d):(?<second>\\d\\d)";

const httpDateForms = [
  // Sun, 06 Nov 1994 08:49:37 GMT
  new RegExp(`^(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), (?<day>\\d\\d) ${month} (?<year>\\d{4}) ${time} GMT$`),
  // Sunday, 06-Nov-94 08:49:37 GMT, as RFC 850 had it
  new RegExp(
    `^(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day, (?<day>\\d\\d)-${month}-(?<year>\\d\\d) ${time} GMT$`,
  ),
  // Sun Nov  6 08:49:37 1994, as asctime() prints it
  new RegExp(`^(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) ${month} (?<day>[ \\d]\\d) ${time} (?<year>\\d{4})$`),
];

/**
 * Reads an HTTP-date in any of the three forms of RFC 9110 §5.6.7, as milliseconds since the epoch.
 * @param nowMs Decides the century of a year of two digits: one that seems more than 50 years ahead lies in the past.
 */
export function parseHttpDate(text: string, nowMs: number): number | undefined {
  for (const form of httpDateForms) {
    const parts = form.exec(text)?.groups;
    if (parts === undefined) continue;
    const given = Number(parts["year"]);
    const year = parts["year"]?.length === 2 ? fullYear(given, nowMs) : given;
    return utc([year, months.indexOf(parts["month"]!), Number(parts["day"])], clockOf(parts));
  }
  return undefined;
}

function fullYear(twoDigits: number, nowMs: number): number {
  const thisYear = new Date(nowMs).getUTCFullYear();
  const year = thisYear - (thisYear % 100) + twoDigits;
  return year > thisYear + 50 ? year - 100 : year;
}

const rfc3339 =
  /^(?<year>\d{4})-(?<month>\d\d)-(?<day>\d\d)[Tt ](?<hour>\d\d):(?<minute>\d\d)(?::(?<second>\d\d)(?<fraction>\.\d{1,9})?)?(?:[Zz]|(?<sign>[+-])(?<offsetHour>\d\d):?(?<offsetMinute>\d\d))$/;

/** Reads an RFC 3339 instant with its offset, as milliseconds since the epoch; the seconds may be missing. */
export function parseRfc3339(text: string): number | undefined {
  const parts = rfc3339.exec(text)?.groups;
  if (parts === undefined) return undefined;
  const ms = utc([Number(parts["year"]), Number(parts["month"]) - 1, Number(parts["day"])], clockOf(parts));
  const offset = (Number(parts["offsetHour"] ?? 0) * 60 + Number(parts["offsetMinute"] ?? 0)) * 60_000;
  if (ms === undefined || offset >= 86_400_000) return undefined;
  return ms + Number(parts["fraction"] ?? 0) * 1000 - (parts["sign"] === "-" ? -offset : offset);
}

type Clock = readonly [hour: number, minute: number, second: number];

function clockOf(parts: Readonly<Record<string, string | undefined>>): Clock {
  return [Number(parts["hour"]), Number(parts["minute"]), Number(parts["second"] ?? 0)];
}

/** Undefined for a day or time that does not exist, which `Date.UTC` would silently turn into another. */
function utc(date: readonly [year: number, month: number, day: number], clock: Clock): number | undefined {
  const [year, monthIndex, day] = date;
  const [hour, minute, second] = clock;
  if (hour > 23 || minute > 59 || second > 60) return undefined;
  const midnight = new Date(0);
  midnight.setUTCFullYear(year, monthIndex, day);
  if (midnight.getUTCMonth() !== monthIndex) return undefined;
  return midnight.getTime() + ((hour * 60 + minute) * 60 + second) * 1000;
}

const unitMs: ReadonlyMap<string, number> = new Map([
  ["ns", 1e-6],
  ["us", 1e-3],
  ["µs", 1e-3],
  ["ms", 1],
  ["s", 1000],
  ["m", 60_000],
  ["h", 3_600_000],
  ["d", 86_400_000],
]);

/** Reads a duration such as `1m30.5s`, `6ms`, `1h2m` or `1d`, in milliseconds. A number without a unit is none. */
export function parseDuration(text: string): number | undefined {
  if (text.length > 64 || !/^(?:\d+(?:\.\d+)?(?:ns|us|µs|ms|s|m|h|d))+$/.test(text)) return undefined;
  let ms = 0;
  for (const [, count, unit] of text.matchAll(/(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h|d)/g))
    ms += Number(count) * unitMs.get(unit!)!;
  return ms;
}

/** Reads a plain number of at least 0, fractions allowed: `120`, `2.0`. Neither sign nor exponent. */
export function parseCount(text: string): number | undefined {
  return /^\d+(?:\.\d+)?$/.test(text) ? Number(text) : undefined;
}
