import { randomBytes } from 'node:crypto';
import {
  chmodSync,
  closeSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join, relative } from 'node:path';
import type { Encryption } from '@sepia/base/config/encryption';
import { readClusterKey } from '@sepia/base/config/load';
import { systemCode } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import type { ClusterDocument } from '@sepia/cluster/document';
import { loadClusterDocument, parseClusterDocument } from '@sepia/cluster/load-document';
import type { StrangersPolicy } from '@sepia/cluster/stranger-policy';
import { parse, stringify } from 'yaml';
import { isThere } from './is-there.ts';
import { checkOverrideNames, laidOver, overridesOf } from './overrides.ts';
import { HOST, type MemberPlan } from './plan.ts';
import type { UpstreamOption } from './upstream-option.ts';

/** Of a file that its owner alone reads. */
const SECRET_MODE = 0o600;
/** A folder that may be written to and not be read, or that its file system does not sync. */
const UNSYNCED = new Set(['EACCES', 'EPERM', 'EINVAL', 'ENOTSUP', 'EBADF']);

/** Policies of the cluster document that the command line may set; left out: they stay as they are. */
export interface UpPolicies {
  readonly strangers?: StrangersPolicy;
  readonly encryption?: Encryption;
}

/** Where everything of a cluster lies below its data folder. */
export interface ClusterPaths {
  readonly root: string;
  readonly key: string;
  readonly document: string;
  /** What agents and snapshotters of this machine know each other by. */
  readonly nodeSecret: string;
  /** The Authorization header that webhooks must carry, with `--accelerate`. */
  readonly webhookAuthorization: string;
  /** Address of the records' database, where they rest in one. */
  readonly recordsUrl: string;
  readonly clusterJson: string;
  config(name: string): string;
  log(name: string): string;
  data(name: string): string;
}

/** Where the files of a cluster of `sepia up` lie below its folder. */
export function clusterPaths(root: string): ClusterPaths {
  return {
    root,
    key: join(root, 'cluster-key'),
    document: join(root, 'cluster-document.yaml'),
    nodeSecret: join(root, 'node-secret'),
    webhookAuthorization: join(root, 'webhook-authorization'),
    recordsUrl: join(root, 'records-url'),
    clusterJson: join(root, 'cluster.json'),
    config: (name) => join(root, 'configs', `${name}.yaml`),
    log: (name) => join(root, 'logs', `${name}.log`),
    data: (name) => join(root, 'members', name),
  };
}

/** Writes key, cluster document and one config per member. What exists of the key and of members' data is kept. */
export function writeClusterFiles(
  paths: ClusterPaths,
  members: readonly MemberPlan[],
  upstreams: readonly UpstreamOption[],
  options: {
    readonly preheat?: boolean;
    readonly isLazy?: boolean;
    readonly accelerates?: boolean;
    readonly policies?: UpPolicies;
    readonly records?: string;
  } = {},
): void {
  checkOverrideNames(paths.root);
  for (const folder of ['configs', 'logs', 'members'])
    mkdirSync(join(paths.root, folder), { recursive: true });
  if (!isThere(paths.key)) writeSecret(paths.key);
  readClusterKey(paths.key);
  if (!isThere(paths.nodeSecret)) writeSecret(paths.nodeSecret);
  if (options.accelerates === true && !isThere(paths.webhookAuthorization))
    writeSecret(paths.webhookAuthorization);
  writeRecordsUrl(paths, options.records);
  writeDocument(paths, members, upstreams, options);
  for (const member of members) {
    const config = laidOver(
      memberConfig(paths, member, upstreams, options),
      overridesOf(paths.root, member.role),
    );
    const text = `# Written by "sepia up" at each start: changes here are lost. Further keys: ../overrides/${member.role}.yaml\n${stringify(config)}`;
    replaceFile(paths.config(member.name), text);
  }
}

/** The database of the records stays that of the last start, unless `records` names another or `embedded`. */
function writeRecordsUrl({ recordsUrl }: ClusterPaths, records: string | undefined): void {
  if (records === 'embedded') rmSync(recordsUrl, { force: true });
  else if (records !== undefined) replaceFile(recordsUrl, `${records}\n`, 0o600);
}

function writeSecret(file: string): void {
  replaceFile(file, `${randomBytes(32).toString('hex')}\n`, 0o600);
}

/**
 * Writes a file so that readers see the old or the new one, never a part, nor with a wider mode. What its owner alone reads is a
 * secret, which nobody makes again: it is on the disk when this returns.
 */
export function replaceFile(file: string, text: string, mode = 0o644): void {
  const temporary = `${file}.${process.pid}.tmp`;
  const isSecret = mode === SECRET_MODE;
  writeFileSync(temporary, text, { mode: SECRET_MODE, flush: isSecret });
  try {
    chmodSync(temporary, mode);
    renameSync(temporary, file);
    if (isSecret) syncFolderOf(file);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw error;
  }
}

/** The name of a file that was just given it is on the disk when this returns, where its file system can do that and we may. */
export function syncFolderOf(file: string): void {
  let fd: number | undefined;
  try {
    fd = openSync(dirname(file), 'r');
    fsyncSync(fd);
  } catch (error) {
    throwIfBug(error);
    if (!UNSYNCED.has(systemCode(error) ?? '')) throw error;
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}

/** Upstreams of the document that is there. @throws {CodedError} `CONFIG_INVALID` if it is not valid */
export function keptUpstreams(paths: ClusterPaths): UpstreamOption[] {
  if (!isThere(paths.document)) return [];
  const { upstreams } = loadClusterDocument(paths.document);
  return upstreams.map(({ name, url, hosts, mode }) => ({ name, url, hosts, mode }));
}

/** The version goes up only when something in the document changed. */
function writeDocument(
  paths: ClusterPaths,
  members: readonly MemberPlan[],
  upstreams: readonly UpstreamOption[],
  options: {
    readonly isLazy?: boolean;
    readonly accelerates?: boolean;
    readonly policies?: UpPolicies;
  },
): void {
  const kept = keptKeys(paths.document);
  const content = {
    ...kept.document,
    ...conversionsOf(kept.document, upstreams, options),
    ...policiesOf(kept.document, options.policies),
    members: members.filter((member) => IN_DOCUMENT.includes(member.role)).map(documentMember),
    upstreams: upstreams.map(({ name, url, hosts, mode }) => ({
      ...kept.upstreams.get(name),
      name,
      ...(url === undefined ? {} : { url }),
      hosts: [...hosts],
      mode,
      ...accessOf(mode, kept, name),
    })),
  };
  const render = (version: number): string => stringify({ version, ...content });
  const wanted = parseClusterDocument(render(1), paths.document);
  const existing = isThere(paths.document) ? loadClusterDocument(paths.document) : undefined;
  if (existing !== undefined && sameContent(existing, wanted)) return;
  replaceFile(paths.document, render((existing?.version ?? 0) + 1));
}

/** A cluster without accounts is open to whoever reaches it; of the mode that takes pushes for a registry this must be said. */
function accessOf(
  mode: UpstreamOption['mode'],
  kept: ReturnType<typeof keptKeys>,
  name: string,
): { access?: 'cluster' } {
  if (mode !== 'write-back' || kept.document['accounts'] !== undefined) return {};
  return kept.upstreams.get(name)?.['access'] === undefined ? { access: 'cluster' } : {};
}

/** What the command line says, beside other policies that are there. */
function policiesOf(
  kept: Readonly<Record<string, unknown>>,
  said: UpPolicies | undefined,
): { policies?: unknown } {
  if (said === undefined || Object.keys(said).length === 0) return {};
  return { policies: { ...(kept['policies'] as object | undefined), ...said } };
}

/** Ports between a snapshotter and the agent of the same number. */
const AGENT_BELOW = 500;
const IN_DOCUMENT: readonly MemberPlan['role'][] = ['origin', 'tracker', 'proxy'];

/** With `--lazy` every image is indexed, with `--accelerate` converted; rules that are there already stay. */
function conversionsOf(
  kept: Readonly<Record<string, unknown>>,
  upstreams: readonly UpstreamOption[],
  { isLazy, accelerates }: { readonly isLazy?: boolean; readonly accelerates?: boolean },
): { conversions?: unknown[] } {
  const wanted = [...(isLazy === true ? [INDEX_RULE] : []), ...(accelerates === true ? [ESTARGZ_RULE] : [])];
  if (wanted.length === 0) return {};
  const rules = (kept['conversions'] ?? []) as { from?: unknown; to?: unknown }[];
  const made = wanted.flatMap((rule) =>
    upstreams
      .filter(({ name }) => !rules.some((one) => (one.to ?? 'estargz') === rule.to && one.from === name))
      .map(({ name }) => ({ name: `${rule.to}-${name}`, from: name, repositories: ['**'], ...rule })),
  );
  return { conversions: [...rules, ...made] };
}

const INDEX_RULE = { to: 'index' } as const;
const ESTARGZ_RULE = { to: 'estargz', 'delete-with-source': true } as const;

/** What an operator wrote into the document stays: all but the members and what the command line says of upstreams. */
function keptKeys(file: string): {
  document: Record<string, unknown>;
  upstreams: Map<string, Record<string, unknown>>;
} {
  if (!isThere(file)) return { document: {}, upstreams: new Map() };
  loadClusterDocument(file);
  const { version: _version, ...document } = parse(readFileSync(file, 'utf8')) as Record<string, unknown>;
  const list = document['upstreams'] as Record<string, unknown>[];
  const own = new Set(['name', 'url', 'hosts', 'mode']);
  const others = list.map((one): [string, Record<string, unknown>] => [
    String(one['name']),
    Object.fromEntries(Object.entries(one).filter(([key]) => !own.has(key))),
  ]);
  return { document, upstreams: new Map(others) };
}

function sameContent(a: ClusterDocument, b: ClusterDocument): boolean {
  return JSON.stringify({ ...a, version: 0 }) === JSON.stringify({ ...b, version: 0 });
}

function documentMember(member: MemberPlan): Record<string, unknown> {
  const peers = member.peerPort === undefined ? {} : { peers: [`${HOST}:${member.peerPort}`] };
  return { id: member.name, role: member.role, urls: [`http://${HOST}:${member.port}`], ...peers };
}

function memberConfig(
  paths: ClusterPaths,
  member: MemberPlan,
  upstreams: readonly UpstreamOption[],
  { preheat, accelerates }: { readonly preheat?: boolean; readonly accelerates?: boolean },
): Record<string, unknown> {
  const beside = (path: string): string => relative(join(paths.root, 'configs'), path);
  const listen = `${HOST}:${member.port}`;
  if (member.role === 'snapshotter') return snapshotterConfig(paths, member, beside);
  const common = {
    id: member.name,
    data: beside(paths.data(member.name)),
    'cluster-key-file': beside(paths.key),
    'cluster-document': beside(paths.document),
    'admin-listen': `${HOST}:${member.adminPort}`,
    log: { level: process.env['SEPIA_LOG_LEVEL'] ?? 'info' },
  };
  const peers = { 'peer-listen': [`${HOST}:${member.peerPort}`] };
  const listeners = { listeners: [{ listen, 'default-upstream': upstreams[0]!.name }] };
  const cache = { cache: { budget: '50GiB' } };
  const authorization = { 'authorization-file': beside(paths.webhookAuthorization) };
  if (member.role === 'tracker') return { ...common, listen };
  if (member.role === 'accelerator')
    return {
      ...common,
      listen,
      ...(accelerates === true ? { api: authorization, scan: PUSHES_SEEN_EVERY } : {}),
    };
  if (member.role === 'origin') {
    const postgres = { engine: 'postgres', 'url-file': beside(paths.recordsUrl) };
    const records = isThere(paths.recordsUrl) ? { records: postgres } : {};
    return { ...common, listen, ...peers, ...cache, ...records };
  }
  if (member.role === 'proxy')
    return { ...common, ...listeners, ...harborOf(preheat, accelerates, authorization) };
  return {
    ...common,
    ...listeners,
    ...peers,
    ...cache,
    'node-secret-file': beside(paths.nodeSecret),
    'back-to-source': { mode: 'auto', after: '5s', 'max-parallel': 2 },
  };
}

/** Nobody sends webhooks of what is pushed to a proxy: scans find it. */
const PUSHES_SEEN_EVERY = '1m';

/** What proxies take of Harbor: only what was asked for. */
function harborOf(preheat = false, accelerates = false, authorization: object = {}): { harbor?: object } {
  if (!preheat && !accelerates) return {};
  return {
    harbor: {
      ...(preheat ? { 'driver-auth': { mode: 'none' } } : {}),
      ...(accelerates ? { webhook: { auth: 'header', ...authorization } } : {}),
    },
  };
}

/** A snapshotter belongs to the agent of its number; what it shows lies in its data folder. */
function snapshotterConfig(
  paths: ClusterPaths,
  member: MemberPlan,
  beside: (path: string) => string,
): Record<string, unknown> {
  const data = paths.data(member.name);
  return {
    data: beside(join(data, 'data')),
    'admin-listen': `${HOST}:${member.adminPort}`,
    agent: `http://${HOST}:${member.port - AGENT_BELOW}`,
    'node-secret-file': beside(paths.nodeSecret),
    mount: beside(join(data, 'mount')),
    'content-cache': beside(join(data, 'content')),
    log: { level: process.env['SEPIA_LOG_LEVEL'] ?? 'info' },
  };
}

/** The text of a log from byte `from` on, at most its last 64 KiB; empty when it cannot be read. */
export function logTail(file: string, from: number): string {
  try {
    const bytes = readFileSync(file);
    // A log that was set aside meanwhile begins anew.
    return bytes
      .subarray(from > bytes.length ? 0 : from)
      .subarray(-64 * 1024)
      .toString('utf8');
  } catch (error) {
    throwIfBug(error);
    return '';
  }
}
