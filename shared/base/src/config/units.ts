import { z } from 'zod';
import { parseHostPort } from '../host-port.ts';
import { parseNetworks } from '../networks.ts';

const SIZE_UNITS: Readonly<Record<string, number>> = {
  B: 1,
  KiB: 2 ** 10,
  MiB: 2 ** 20,
  GiB: 2 ** 30,
  TiB: 2 ** 40,
  KB: 1e3,
  MB: 1e6,
  GB: 1e9,
  TB: 1e12,
};
const TIME_UNITS: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1_000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
};

const SIZE_TEXT = 'write 512MiB, 10GiB or a number of bytes';
const DURATION_TEXT = 'write 500ms, 5s, 2m or 1h';
/** What stands for nothing in each. */
const NO_BYTES = '0';
const NO_TIME = '0s';

/** Bytes from `512`, `64KiB`, `10GiB`, `3GB`; undefined if malformed. */
export function parseBytes(text: string): number | undefined {
  return parseUnit(text, SIZE_UNITS, 'B');
}

/** Milliseconds from `500ms`, `5s`, `2m`, `1h`, `1d`; undefined if malformed. A bare number is refused. */
export function parseDuration(text: string): number | undefined {
  return parseUnit(text, TIME_UNITS, undefined);
}

function parseUnit(
  text: string,
  units: Readonly<Record<string, number>>,
  bare: string | undefined,
): number | undefined {
  const found = /^(\d+(?:\.\d+)?)\s*([A-Za-z]*)$/.exec(text.trim());
  const unit = found?.[2] === '' ? bare : found?.[2];
  if (found === null || unit === undefined || !Object.hasOwn(units, unit)) return undefined;
  const value = Math.round(Number(found[1]) * units[unit]!);
  return Number.isSafeInteger(value) ? value : undefined;
}

/** What a value may be, as it is written: `5s`, `1GiB`. */
interface Bounds {
  readonly least: string;
  readonly most?: string;
  /** 0 may be written although it is less: it has a meaning of its own. */
  readonly orZero?: true;
  /** Why, for who is refused. */
  readonly because?: string;
}

/**
 * Config value of a size: a whole number of bytes, or text such as `10GiB` and `3GB`; becomes bytes. A value out of `bounds` is
 * refused with the bound.
 */
export function bytes(bounds: Bounds): z.ZodType<number> {
  const check = boundsCheck(bounds, parseBytes, NO_BYTES);
  return z
    .union([z.number().int().nonnegative(), z.string()], { error: () => `is not a size; ${SIZE_TEXT}` })
    .meta({ range: rangeText(bounds, NO_BYTES) })
    .transform((value, ctx) => {
      const parsed = typeof value === 'number' ? value : parseBytes(value);
      const fault = parsed === undefined ? `"${value}" is not a size; ${SIZE_TEXT}` : check(parsed, value);
      if (fault !== undefined) ctx.addIssue({ code: 'custom', message: fault });
      return parsed ?? 0;
    }) as unknown as z.ZodType<number>;
}

/** Config value in milliseconds, e.g. `5s`. What is waited for has a `most` that timers take: beyond 24 days they fire at once. */
export function duration(bounds: Bounds & { readonly most: string }): z.ZodType<number> {
  const check = boundsCheck(bounds, parseDuration, NO_TIME);
  return z
    .union([z.number(), z.string()], { error: () => `is not a duration; ${DURATION_TEXT}` })
    .meta({ range: rangeText(bounds, NO_TIME) })
    .transform((value, ctx) => {
      const parsed = typeof value === 'number' ? undefined : parseDuration(value);
      const fault =
        parsed === undefined ? `"${value}" is not a duration; ${DURATION_TEXT}` : check(parsed, value);
      if (fault !== undefined) ctx.addIssue({ code: 'custom', message: fault });
      return parsed ?? 0;
    }) as unknown as z.ZodType<number>;
}

/** Bounds in words, for docs: of a floor of 0 nothing is said. */
function rangeText({ least, most, orZero }: Bounds, zero: string): string {
  const isFloor = !/^0[a-z]*$/i.test(least);
  const from = isFloor ? ` ${orZero === true ? `${zero} or ` : ''}from ${least}` : '';
  return most === undefined ? from : `${from} to ${most}`;
}

/** Tells what is wrong with a value that was read; `written` is how it stands in the file. */
function boundsCheck(
  { least, most, orZero, because }: Bounds,
  parse: (text: string) => number | undefined,
  zero: string,
): (value: number, written: number | string) => string | undefined {
  const [from, to] = [parse(least), most === undefined ? Number.MAX_SAFE_INTEGER : parse(most)];
  if (from === undefined || to === undefined || from > to)
    throw new TypeError(`no bounds: ${least}, ${most}`);
  const reason = because === undefined ? '' : `: ${because}`;
  return (value, written) => {
    if (orZero === true && value === 0) return undefined;
    if (value < from)
      return `is ${orZero === true ? `${zero} or ` : ''}at least ${least}, not ${written}${reason}`;
    return value > to ? `is at most ${most}, not ${written}${reason}` : undefined;
  };
}

/** Config value: a file or a folder, of which more is not known here. */
export function pathText(): z.ZodString {
  return z.string().min(1, 'is empty; write the path of a file or folder');
}

/** Config value of a zone: peers are of the same one where the text is the same. */
export function zoneName(): z.ZodString {
  return z
    .string()
    .regex(/^\S/, 'is empty or begins with a space; write the name of a zone, or leave the key out')
    .regex(/\S$/, 'ends with a space')
    .max(64);
}

/** Config value `host:port`, or `[v6]:port`; stays the text that it is. */
export function hostPort(): z.ZodType<string> {
  return z.string().refine((text) => parseHostPort(text) !== undefined, {
    error: (issue) => `"${String(issue.input)}" is not host:port, e.g. 127.0.0.1:17000`,
  });
}

/** What `trusted-proxies` of a listener means. */
export const TRUSTED_PROXIES_TEXT =
  'Addresses or networks (10.0.0.0/8) of TLS proxies before this listener: behind them the last other address in X-Forwarded-For counts as the client for limits and the audit log. Default: none, and that header is never read.';

/** Config value: a list of addresses and networks; empty by default. */
export function networks(): z.ZodDefault<z.ZodArray<z.ZodType<string>>> {
  const one = z.string().refine((text) => parseNetworks([text]) !== undefined, {
    error: (issue) => `"${String(issue.input)}" is no address or network, e.g. 10.0.0.7 or 10.0.0.0/8`,
  });
  return z.array(one).max(64).default([]);
}

/** Config value: an http or https URL without path, query or credentials. */
export function baseUrl(): z.ZodType<string> {
  return z.string().refine(isBaseUrl, {
    error: (issue) =>
      `"${withoutAccount(String(issue.input))}" is not an http(s) URL without path, e.g. https://harbor.example.com`,
  });
}

/** True for an http(s) URL without path, account, query and fragment: what a path is put behind. */
export function isBaseUrl(text: string): boolean {
  return isRegistryUrl(text) && new URL(text).pathname === '/';
}

/** True for an http(s) URL without account, query, fragment and spaces around it; it may have a path. */
export function isRegistryUrl(text: string): boolean {
  if (/\s/.test(text) || !URL.canParse(text)) return false;
  const { protocol, origin, pathname, href } = new URL(text);
  return ['http:', 'https:'].includes(protocol) && href === `${origin}${pathname}` && !pathname.includes('%');
}

/** Config value: the URL of a registry, which may have a path before `/v2/`. */
export function registryUrl(): z.ZodType<string> {
  return z.string().refine(isRegistryUrl, {
    error: (issue) =>
      `"${withoutAccount(String(issue.input))}" is not an http(s) URL without account and query, e.g. https://harbor.example.com`,
  });
}

/** An address as it may be shown: logs and terminals are seen by more people than passwords. */
export function withoutAccount(text: string): string {
  return text.replace(/^([a-z]+:\/\/)?.*@/is, '$1…@');
}

/** Config value: an HTTP proxy, `http://host:port`, or `direct`. It carries no account: the cluster document holds no secrets. */
export function proxyUrl(): z.ZodType<string> {
  return z.string().refine((text) => text === 'direct' || isBaseUrl(text), {
    error: () => 'is neither an HTTP proxy (http://host:port, without user and password) nor direct',
  });
}

/** Config value: hosts with port or not, e.g. `cdn.example.com` or `10.0.0.7:9000`; empty by default. */
export function hostList(): z.ZodDefault<z.ZodArray<z.ZodType<string>>> {
  const one = z
    .string()
    .refine((text) => /^(?:\[[0-9a-f:.]+\]|[0-9a-z][0-9a-z._-]*|[0-9a-f:]+)(?::\d{1,5})?$/i.test(text), {
      error: (issue) => `"${String(issue.input)}" is no host, e.g. cdn.example.com or 10.0.0.7:9000`,
    });
  return z.array(one).max(64).default([]);
}
