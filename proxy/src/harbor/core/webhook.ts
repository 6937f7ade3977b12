import { type Digest, isDigest } from '@sepia/base/digest';
import { isRepositoryName, isTag, type Tag } from '@sepia/base/names/repository';
import { field, invalid, text } from './messages.ts';

/** A push or deletion as Harbor tells it. `host` is that of Harbor, with port if it has one. */
export interface HarborEvent {
  /** Names the event for good: a repeated delivery has the same. */
  readonly key: string;
  readonly kind: 'push' | 'delete';
  readonly host: string;
  readonly repository: string;
  readonly digest: Digest | undefined;
  readonly tag: Tag | undefined;
}

const LIKE_URL = 'HOST[:PORT]/REPOSITORY:TAG of the repository that repo_full_name names';
/** Harbor sends one; as many as fit into the time that it waits. */
const MAX_RESOURCES = 100;

const KINDS: Readonly<Record<string, HarborEvent['kind']>> = {
  PUSH_ARTIFACT: 'push',
  'harbor.artifact.pushed': 'push',
  DELETE_ARTIFACT: 'delete',
  'harbor.artifact.deleted': 'delete',
};

/**
 * Events of a webhook in Harbor's default format or as a structured CloudEvent; empty for kinds that mean nothing
 * here. Unknown keys are ignored. A resource without tag has its digest in `tag`.
 * @throws {CodedError} `REQUEST_INVALID` that names the field, and nothing else
 */
export function parseWebhook(value: unknown): HarborEvent[] {
  const type = field(value, 'type');
  if (typeof type !== 'string') throw invalid('type', 'is not text');
  const kind = Object.hasOwn(KINDS, type) ? KINDS[type] : undefined;
  if (kind === undefined) return [];
  const isCloudEvent = field(value, 'specversion') !== undefined;
  const where = isCloudEvent ? 'data' : 'event_data';
  const data = field(value, where);
  const repository = text(field(field(data, 'repository'), 'repo_full_name'));
  if (repository === undefined || !isRepositoryName(repository))
    throw invalid(`${where}.repository.repo_full_name`, 'is not a repository name');
  const resources = field(data, 'resources');
  if (!Array.isArray(resources) || resources.length === 0)
    throw invalid(`${where}.resources`, 'is not a list with entries');
  if (resources.length > MAX_RESOURCES)
    throw invalid(
      `${where}.resources`,
      `has ${resources.length} entries; at most ${MAX_RESOURCES} are taken`,
    );
  const stamp = isCloudEvent ? cloudId(value) : stampOf(value);
  return resources.map((resource: unknown, index) => {
    const at = `${where}.resources[${index}]`;
    const digest = text(field(resource, 'digest'));
    const named = text(field(resource, 'tag'));
    if (digest !== undefined && !isDigest(digest)) throw invalid(`${at}.digest`, 'is not a digest');
    const tag = named !== undefined && isTag(named) ? named : undefined;
    const known = digest ?? (named !== undefined && isDigest(named) ? named : undefined);
    if (known === undefined && tag === undefined) throw invalid(at, 'names neither digest nor tag');
    const host = hostOf(text(field(resource, 'resource_url')), repository);
    if (host === undefined) throw invalid(`${at}.resource_url`, `is not ${LIKE_URL}`);
    const key = [stamp, kind, host, repository, known ?? '', tag ?? ''].join('\n');
    return { key, kind, host, repository, digest: known, tag };
  });
}

/** CloudEvents are told apart by their id, which a repeated delivery keeps. */
function cloudId(value: unknown): string {
  const id = text(field(value, 'id'));
  if (id === undefined || id.length > 256) throw invalid('id', 'is missing or too long');
  return `ce ${id}`;
}

/** The default format has no id: its time in seconds must do. */
function stampOf(value: unknown): string {
  const at = field(value, 'occur_at');
  if (typeof at !== 'number' || !Number.isFinite(at)) throw invalid('occur_at', 'is not a number');
  return `at ${at}`;
}

/** Host of `host[:port]/project/name:tag` or `host/project/name@sha256:…`. */
function hostOf(resource: string | undefined, repository: string): string | undefined {
  const at = resource?.indexOf(`/${repository}`) ?? -1;
  const host = resource?.slice(0, at).replace(/^https?:\/\//, '');
  return at > 0 && host !== undefined && /^[\w.:[\]-]{1,255}$/.test(host) ? host : undefined;
}
