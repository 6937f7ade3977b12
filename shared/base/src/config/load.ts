import { readFileSync, statSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { parse } from 'yaml';
import type { z } from 'zod';
import { CodedError, systemCode } from '../errors.ts';
import { throwIfBug, tryParse } from '../failure.ts';
import { keysAt, nearestKey } from './known-keys.ts';
import { yamlFault } from './yaml-fault.ts';

/** Mode bit: users who are neither the owner nor of the group may read. */
const OTHERS_READ = 0o004;
/** Faults of one file that are told at once. */
const MOST_ISSUES = 20;
/** Letters of a value that are shown. */
const MOST_SHOWN = 60;
const KEYS_PAGE = 'docs/config.md';

/**
 * Reads a YAML file and checks it against a strict schema. The result is frozen.
 * @throws {CodedError} `CONFIG_INVALID` with one line that names the file and the key
 */
export function loadConfig<T>(file: string, schema: z.ZodType<T>): T {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (cause) {
    throwIfBug(cause);
    throw invalid(`${file}: cannot be read (${systemCode(cause)})`, cause);
  }
  return checkConfig(text, file, schema);
}

/** As {@link loadConfig}, from text; `file` is the name used in errors. */
export function checkConfig<T>(text: string, file: string, schema: z.ZodType<T>): T {
  const read = tryParse<unknown>(() =>
    parse(text, { uniqueKeys: true, maxAliasCount: 20, logLevel: 'error' }),
  );
  if (!read.ok) throw invalid(`${file}: ${yamlFault(read.cause, text)}`, read.cause);
  const checked = schema.safeParse(read.value ?? {}, { reportInput: true });
  if (checked.success) return Object.freeze(checked.data);
  throw invalid(`${file}: ${issuesText(checked.error.issues, schema)}`);
}

/** Resolves a path named in a config file against that file's folder. */
export function besideConfig(file: string, path: string): string {
  return resolve(dirname(file), path);
}

/** `part` of the config in `file` with the paths of `keys` absolute, where they are set. */
export function withPaths<T extends object>(file: string, part: T, keys: readonly (keyof T)[]): T {
  const paths = keys.flatMap((key) => {
    const path = part[key];
    return typeof path === 'string' ? [[key, besideConfig(file, path)] as const] : [];
  });
  return { ...part, ...Object.fromEntries(paths) };
}

/** `listeners` of the config in `file` with the paths of their certificates absolute. */
export function withListenerPaths<
  T extends { readonly tls?: { 'certificate-file': string; 'key-file': string } | undefined },
>(file: string, listeners: readonly T[]): T[] {
  return listeners.map((one) =>
    one.tls === undefined ? one : { ...one, tls: withPaths(file, one.tls, ['certificate-file', 'key-file']) },
  );
}

/**
 * Reads the cluster key: a file of 64 hex characters (32 bytes), not all of them 0, that not everybody may read. `key` names the config key in errors.
 * @throws {CodedError} `CONFIG_INVALID`
 */
export function readClusterKey(path: string, key = 'cluster-key-file'): Uint8Array {
  let text: string;
  let mode: number;
  try {
    ({ mode } = statSync(path));
    text = readFileSync(path, 'utf8').trim();
  } catch (cause) {
    throwIfBug(cause);
    throw invalid(
      `${key}: ${path} cannot be read (${systemCode(cause)}); make one with: openssl rand -hex 32 > FILE`,
      cause,
    );
  }
  if (!/^[0-9a-f]{64}$/i.test(text))
    throw invalid(`${key}: ${path} must hold 64 hex characters; make one with: openssl rand -hex 32 > FILE`);
  if (/^0+$/.test(text))
    throw invalid(
      `${key}: ${path} holds zeros only, which is no secret; make one with: openssl rand -hex 32 > FILE`,
    );
  if ((mode & OTHERS_READ) !== 0)
    throw invalid(`${key}: ${path} can be read by everybody on this machine; run: chmod o= ${path}`);
  return Buffer.from(text, 'hex');
}

/** Unknown keys first: where others are missing, one of them is often what was meant. Where all keys are told stands last. */
function issuesText(issues: readonly z.core.$ZodIssue[], schema: z.ZodType): string {
  const isUnknown = ({ code }: z.core.$ZodIssue): boolean => code === 'unrecognized_keys';
  const sorted = [...issues.filter(isUnknown), ...issues.filter((issue) => !isUnknown(issue))];
  const more = sorted.length - MOST_ISSUES;
  const told = sorted.slice(0, MOST_ISSUES).map((issue) => issueText(issue, schema));
  const where = sorted.some(isUnknown) ? [`see ${KEYS_PAGE} for the keys`] : [];
  return [...told, ...(more > 0 ? [`and ${more} more`] : []), ...where].join('; ');
}

function issueText(issue: z.core.$ZodIssue, schema: z.ZodType): string {
  const path = issue.path.map(String).join('.');
  if (issue.code === 'unrecognized_keys') {
    const known = keysAt(schema, issue.path);
    const below = (key: string): string => (path === '' ? key : `${path}.${key}`);
    const keys = issue.keys.slice(0, MOST_ISSUES).map((key) => {
      const near = nearestKey(key, known);
      return `${below(key)}${near === undefined ? '' : ` (${below(near)}?)`}`;
    });
    const more = issue.keys.length - keys.length;
    return `unknown key ${keys.join(', ')}${more > 0 ? ` and ${more} more` : ''}`;
  }
  if (issue.code === 'invalid_type' && issue.input === null)
    return `${path}: is empty (${issue.expected}); write something, or leave the key out`;
  if (issue.code === 'invalid_type' && issue.input === undefined)
    return `${path}: is missing (${issue.expected})`;
  if (path === '' && issue.code === 'invalid_type')
    return `holds no keys; write lines of the form KEY: VALUE, see ${KEYS_PAGE} for the keys`;
  return `${path === '' ? '(root)' : path}: ${plainText(issue)}`;
}

/** Who writes a file knows no validator: `Invalid input: expected …` says no more than its second half. */
function plainText(issue: z.core.$ZodIssue): string {
  const { input } = issue;
  if (issue.code !== 'invalid_value' || (typeof input !== 'string' && typeof input !== 'number'))
    return issue.message.replace(/^Invalid input: /, '');
  return `"${String(input).slice(0, MOST_SHOWN)}" is not one of ${issue.values.map(String).join(', ')}`;
}

function invalid(message: string, cause?: unknown): CodedError {
  return new CodedError('CONFIG_INVALID', { message, cause });
}
