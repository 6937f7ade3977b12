import { MAX_MANIFEST_BYTES } from '@sepia/oci/manifest';
import { route } from './route.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
/** How a call names a repository. */
const NAME = ['upstream', 'repository'] as const;

/** Calls that origins answer about blobs and uploads; each row names who may make it, its query and how large its body may be. */
export const ORIGIN_BLOBS = {
  where: route('where', 'GET /v1/blobs/:digest/where', {
    query: NAME,
    callers: ['agent', 'origin', 'proxy', 'tracker'],
  }),
  /** Of several links at once. */
  words: route('words', 'POST /v1/words', { callers: ['tracker'], json: 128 * KIB }),
  metainfo: route('metainfo', 'GET /v1/blobs/:digest/metainfo', {
    query: [...NAME, 'fetch?', 'wait?', 'from?', 'want?', 'piece?'],
    callers: ['agent', 'proxy', 'tracker'],
  }),
  leaves: route('leaves', 'GET /v1/blobs/:digest/leaves', {
    query: [...NAME, 'from', 'count'],
    callers: ['agent', 'proxy'],
  }),
  complaints: route('complaints', 'POST /v1/blobs/:digest/complaints', {
    query: ['piece'],
    callers: ['agent', 'proxy'],
  }),
  /** Metainfo of a 1 TiB blob in base64 and its peers fit. */
  adopt: route('adopt', 'POST /v1/blobs/:digest/adopt', {
    query: [...NAME, 'want?', 'piece?'],
    callers: ['tracker'],
    json: 48 * MIB,
  }),
  keep: route('keep', 'POST /v1/blobs/:digest/keep', { query: [...NAME, 'mount?'], callers: ['origin'] }),
  fetch: route('fetch', 'POST /v1/blobs/:digest/fetch', {
    query: [...NAME, 'wait?', 'copies?'],
    callers: ['proxy'],
  }),
  delivery: route('delivery', 'POST /v1/blobs/:digest/delivery', {
    query: [...NAME, 'kind?'],
    callers: ['origin', 'proxy'],
  }),
  blob: route('blob', 'GET /v1/blobs/:digest', {
    query: [...NAME, 'as-is?'],
    callers: ['agent', 'origin', 'proxy'],
  }),
  piece: route('piece', 'GET /v1/blobs/:digest/pieces/:index', {
    query: [...NAME, 'last?'],
    callers: ['agent'],
  }),
  torrentPieces: route('torrent-pieces', 'GET /v1/blobs/:digest/torrent', {
    query: NAME,
    callers: ['tracker'],
  }),
  strangers: route('strangers', 'POST /v1/blobs/:digest/strangers', {
    query: [...NAME, 'infohash', 'ttl', 'address*'],
    callers: ['tracker'],
  }),
  blobPut: route('blob-put', 'PUT /v1/blobs/:digest', {
    query: [...NAME, 'copy?', 'hint?', 'made?', 'client?'],
    callers: ['origin', 'proxy'],
    stream: true,
  }),
  blobDelete: route('blob-delete', 'DELETE /v1/blobs/:digest', { query: NAME, callers: ['proxy'] }),
  room: route('room', 'GET /v1/room', { query: ['bytes', 'client?'], callers: ['proxy'] }),
  uploadBegin: route('upload-begin', 'POST /v1/uploads', {
    query: [...NAME, 'room?', 'client?'],
    callers: ['proxy'],
  }),
  uploadStatus: route('upload-status', 'GET /v1/uploads/:id', { query: NAME, callers: ['proxy'] }),
  uploadAppend: route('upload-append', 'PATCH /v1/uploads/:id', {
    query: NAME,
    callers: ['proxy'],
    stream: true,
  }),
  uploadFinish: route('upload-finish', 'PUT /v1/uploads/:id', {
    query: [...NAME, 'digest'],
    callers: ['proxy'],
    stream: true,
  }),
  uploadCancel: route('upload-cancel', 'DELETE /v1/uploads/:id', { query: NAME, callers: ['proxy'] }),
  mount: route('mount', 'POST /v1/mounts', { query: [...NAME, 'from', 'digest'], callers: ['proxy'] }),
} as const;

/** Calls about manifests, tags and lists that origins answer, and what takes them away. */
export const ORIGIN_NAMES = {
  manifest: route('manifest', 'GET /v1/manifests', {
    query: [...NAME, 'reference', 'fresh?'],
    callers: ['agent', 'cli', 'origin', 'proxy'],
  }),
  manifestPut: route('manifest-put', 'PUT /v1/manifests', {
    query: [...NAME, 'reference', 'tag*'],
    callers: ['proxy'],
    bytes: MAX_MANIFEST_BYTES,
  }),
  manifestDelete: route('manifest-delete', 'DELETE /v1/manifests', {
    query: [...NAME, 'reference'],
    callers: ['proxy'],
  }),
  referrers: route('referrers', 'GET /v1/referrers', {
    query: [...NAME, 'digest', 'artifactType?', 'last?'],
    callers: ['proxy'],
  }),
  catalog: route('catalog', 'GET /v1/catalog', { query: ['upstream', 'n?', 'last?'], callers: ['proxy'] }),
  repositories: route('repositories', 'GET /v1/repositories', {
    query: ['upstream', 'repository?', 'limit?', 'after?'],
    callers: ['origin'],
  }),
  tags: route('tags', 'GET /v1/tags', { query: [...NAME, 'n?', 'last?'], callers: ['proxy'] }),
  tagHistory: route('tag-history', 'GET /v1/tags/history', { query: [...NAME, 'tag'], callers: ['cli'] }),
  tagSet: route('tag-set', 'PUT /v1/tags', { query: [...NAME, 'tag'], callers: ['cli'], json: 4 * KIB }),
  removal: route('removal', 'POST /v1/removals', { query: NAME, callers: ['cli'], json: 256 * KIB }),
  removalDrop: route('removal-drop', 'POST /v1/removals/drop', {
    query: NAME,
    callers: ['origin'],
    json: 256 * KIB,
  }),
  purge: route('purge', 'POST /v1/purge', { query: NAME, callers: ['origin', 'proxy'], json: 4 * KIB }),
  revocations: route('revocations', 'POST /v1/revocations', { callers: ['origin'], json: 4 * MIB }),
} as const;

/** Calls about records, replication and access that origins answer, and what they say of themselves. */
export const ORIGIN_RECORDS = {
  records: route('records', 'GET /v1/records/:set', {
    query: [...NAME, 'key?', 'prefix?', 'limit?', 'after?'],
    callers: ['origin'],
  }),
  recordsPut: route('records-put', 'PUT /v1/records/:set', {
    query: NAME,
    callers: ['origin'],
    json: 16 * MIB,
  }),
  recordsRead: route('records-read', 'POST /v1/records/:set/read', {
    query: NAME,
    callers: ['origin'],
    json: MIB,
  }),
  taglist: route('taglist', 'GET /v1/taglists', {
    query: [...NAME, 'limit?', 'after?'],
    callers: ['origin'],
  }),
  register: route('register', 'POST /v1/register', { callers: ['origin', 'proxy'], json: 256 * KIB }),
  quotaHold: route('quota-hold', 'POST /v1/usage/hold', {
    query: NAME,
    callers: ['origin'],
    json: 4 * KIB,
  }),
  backup: route('backup', 'GET /v1/backup/:space', { query: ['after?', 'limit?'], callers: ['cli'] }),
  restore: route('restore', 'POST /v1/restore', { callers: ['cli'], json: 16 * MIB }),
  replicationJobsPut: route('replication-jobs-put', 'PUT /v1/replication/jobs', {
    callers: ['origin'],
    json: 2 * MIB,
  }),
  replicationRunning: route('replication-running', 'GET /v1/replication/running', {
    query: ['key'],
    callers: ['origin'],
  }),
  replicationWaiting: route('replication-waiting', 'GET /v1/replication/waiting', {
    query: [...NAME, 'rule', 'reference?', 'all?'],
    callers: ['origin'],
  }),
  replication: route('replication', 'GET /v1/replication', { query: ['rule?', 'limit?'], callers: ['cli'] }),
  replicationRun: route('replication-run', 'POST /v1/replication/run', { callers: ['cli'], json: 2 * MIB }),
  replicationCancel: route('replication-cancel', 'POST /v1/replication/cancel', {
    callers: ['cli'],
    json: 2 * MIB,
  }),
  replicationRetry: route('replication-retry', 'POST /v1/replication/retry', {
    callers: ['cli'],
    json: 2 * MIB,
  }),
  access: route('access', 'GET /v1/access', {
    query: ['upstream', 'repository?', 'reference?', 'digest?'],
    callers: ['agent', 'proxy'],
  }),
  lend: route('lend', 'POST /v1/access/lend', { query: NAME, callers: ['origin'] }),
  token: route('token', 'POST /v1/token', { callers: ['proxy'], json: 128 * KIB }),
  cluster: route('cluster', 'GET /v1/cluster', { callers: ['origin', 'agent', 'proxy', 'tracker'] }),
  status: route('status', 'GET /v1/status', { callers: ['proxy'] }),
} as const;

/** Calls by which origins get records back and keep their copies the same. */
export const ORIGIN_SYNC = {
  standing: route('standing', 'GET /v1/standing', { callers: ['origin'] }),
  handover: route('handover', 'POST /v1/handover', { callers: ['origin'], json: 4 * KIB }),
  closing: route('closing', 'POST /v1/closing', { callers: ['origin'], json: 4 * KIB }),
  closingConfirm: route('closing-confirm', 'POST /v1/closing/confirm', {
    callers: ['origin'],
    json: 4 * KIB,
  }),
  digests: route('sync-digests', 'GET /v1/sync/digests', { query: ['with'], callers: ['origin'] }),
  page: route('sync-page', 'POST /v1/sync/page', { callers: ['origin'], json: MIB }),
  covers: route('sync-covers', 'POST /v1/sync/covers', { callers: ['origin'], json: 2 * MIB }),
  owe: route('sync-owe', 'POST /v1/sync/owe', { callers: ['origin'], json: MIB }),
} as const;

/** Calls by which origins agree up to where tombstones go, and take that over from each other. ADR 0072. */
export const ORIGIN_FLOORS = {
  promise: route('floor-promise', 'POST /v1/floors/promise', {
    query: NAME,
    callers: ['origin'],
    json: 4 * KIB,
  }),
  agree: route('floor-agree', 'POST /v1/floors/agree', { query: NAME, callers: ['origin'], json: 4 * KIB }),
  list: route('floors', 'POST /v1/floors/list', { callers: ['origin'], json: MIB }),
  page: route('floor-page', 'POST /v1/floors/page', { query: NAME, callers: ['origin'], json: 16 * KIB }),
} as const;

/** Calls by which an operator looks at what waits for the registries behind, and steers it. */
export const ORIGIN_WRITE_BACK = {
  status: route('write-back', 'GET /v1/write-back', { query: ['upstream?'], callers: ['cli'] }),
  retry: route('write-back-retry', 'POST /v1/write-back/retry', { callers: ['cli'], json: 4 * KIB }),
} as const;

/** Calls of a garbage collection: an operator begins one, its leader asks every origin. */
export const ORIGIN_GC = {
  begin: route('gc-begin', 'POST /v1/gc', { callers: ['cli'], json: 4 * KIB }),
  report: route('gc', 'GET /v1/gc', { callers: ['cli'] }),
  ready: route('gc-ready', 'GET /v1/gc/ready', { callers: ['origin'] }),
  repositories: route('gc-repositories', 'GET /v1/gc/repositories', {
    query: ['upstream', 'after?'],
    callers: ['origin'],
  }),
  records: route('gc-records', 'GET /v1/gc/records', {
    query: [...NAME, 'kind', 'after?'],
    callers: ['origin'],
  }),
  tags: route('gc-tags', 'GET /v1/gc/tags', { query: [...NAME, 'after?', 'brief?'], callers: ['origin'] }),
  layers: route('gc-layers', 'GET /v1/gc/layers', { query: ['after?'], callers: ['origin'] }),
  candidates: route('gc-candidates', 'GET /v1/gc/candidates', {
    query: ['after?', 'grace'],
    callers: ['origin'],
  }),
  condemn: route('gc-condemn', 'POST /v1/gc/condemn', { callers: ['origin'], json: 16 * MIB }),
  release: route('gc-release', 'POST /v1/gc/release', { callers: ['origin'], json: 4 * KIB }),
  bury: route('gc-bury', 'POST /v1/gc/bury', { callers: ['origin'], json: 16 * MIB }),
  linked: route('gc-linked', 'POST /v1/gc/linked', { callers: ['origin'], json: 16 * MIB }),
  remove: route('gc-remove', 'POST /v1/gc/remove', { callers: ['origin'], json: 16 * MIB }),
} as const;
