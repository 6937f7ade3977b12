import { type Digest, isDigest } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { isTag, type Tag } from '@sepia/base/names/repository';

/** How far a preheat goes: one owning origin of each blob, all its owners, or the nodes too. */
export const SCOPES = ['single_seed_peer', 'all_seed_peers', 'all_peers'] as const;
/** How far a preheat goes, see {@link SCOPES}. */
export type Scope = (typeof SCOPES)[number];

/** Events of one notification that are looked at; Harbor sends one. */
const MAX_EVENTS = 50;
const MAX_HEADER_CHARS = 16 * 1024;

/** One push event of a registry notification. */
export interface PushNotice {
  readonly repository: string;
  readonly digest: Digest | undefined;
  readonly tag: Tag | undefined;
  /** Names the registry by its host. */
  readonly url: string | undefined;
}

/**
 * Push events of a registry notification, with keys spelled as Harbor does (`Events`, `MediaType`), as distribution
 * does (`events`, `mediaType`), or in any other case. The media type is not looked at: Harbor always names the same.
 * @throws {CodedError} `REQUEST_INVALID` that names the field
 */
export function parseNotification(value: unknown): PushNotice[] {
  const events = field(value, 'events');
  if (!Array.isArray(events)) throw invalid('events', 'is not a list');
  if (events.length > MAX_EVENTS) throw invalid('events', `has more than ${MAX_EVENTS} entries`);
  const notices: PushNotice[] = [];
  for (const [index, event] of events.entries()) {
    const at = `events[${index}]`;
    const action = field(event, 'action');
    if (typeof action !== 'string') throw invalid(`${at}.action`, 'is not text');
    if (action.toLowerCase() !== 'push') continue;
    const target = field(event, 'target');
    const repository = text(field(target, 'repository'));
    const digest = text(field(target, 'digest'));
    const tag = text(field(target, 'tag'));
    const url = text(field(target, 'url'));
    if (repository === undefined) throw invalid(`${at}.target.repository`, 'is missing');
    if (digest !== undefined && !isDigest(digest)) throw invalid(`${at}.target.digest`, 'is not a digest');
    // Untagged content has its digest in place of a tag.
    const named = tag !== undefined && isTag(tag) ? tag : undefined;
    if (digest === undefined && named === undefined)
      throw invalid(`${at}.target`, 'names neither digest nor tag');
    notices.push({ repository, digest, tag: named, url });
  }
  return notices;
}

/** What a Dragonfly job asks for. */
export interface JobRequest {
  readonly url: string;
  readonly scope: Scope;
  /** `Authorization` for the registry, good for this repository. Never stored, never logged. */
  readonly authorization: string | undefined;
}

/** Body of `POST /oapi/v1/jobs`. @throws {CodedError} `REQUEST_INVALID` that names the field */
export function parseJobRequest(value: unknown): JobRequest {
  if (field(value, 'type') !== 'preheat') throw invalid('type', 'is not "preheat"');
  const args = field(value, 'args');
  const type = field(args, 'type') ?? 'image';
  if (type !== 'image') throw invalid('args.type', 'is not "image"');
  const url = text(field(args, 'url'));
  if (url === undefined) throw invalid('args.url', 'is missing');
  return { url, scope: scopeOf(field(args, 'scope')), authorization: broughtIn(field(args, 'headers')) };
}

/** Body of `POST /preheats`, the older protocol. @throws {CodedError} `REQUEST_INVALID` */
export function parseOldPreheat(value: unknown): JobRequest {
  if (field(value, 'type') !== 'image') throw invalid('type', 'is not "image"');
  const url = text(field(value, 'url'));
  if (url === undefined) throw invalid('url', 'is missing');
  return { url, scope: 'single_seed_peer', authorization: broughtIn(field(value, 'headers')) };
}

function scopeOf(value: unknown): Scope {
  if (value === undefined || value === null || value === '') return 'single_seed_peer';
  const found = SCOPES.find((one) => one === value);
  if (found === undefined) throw invalid('args.scope', `is not one of ${SCOPES.join(', ')}`);
  return found;
}

function broughtIn(headers: unknown): string | undefined {
  const value = text(field(headers, 'authorization'));
  if (value === undefined) return undefined;
  if (value.length > MAX_HEADER_CHARS || !/^[\x20-\x7e]+$/.test(value))
    throw invalid('args.headers.Authorization', 'is not a header value');
  return value;
}

/** A key of an object in any case; undefined if it is not there. */
export function field(value: unknown, name: string): unknown {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined;
  const wanted = name.toLowerCase();
  for (const [key, one] of Object.entries(value)) if (key.toLowerCase() === wanted) return one;
  return undefined;
}

/** Text that is not empty. */
export function text(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' ? value : undefined;
}

export function invalid(name: string, why: string): CodedError {
  return new CodedError('REQUEST_INVALID', { message: `${name} ${why}` });
}
