import { isDigest } from '@sepia/base/digest';
import { isObject, optional } from '@sepia/base/json/plain-object';
import { PIECE_BYTES } from '@sepia/metainfo/tree';
import { countPieces, fullnessCells } from './cells.ts';

/** A member as asked: its status answer as it came, or undefined when it was silent. */
export interface AskedMember {
  readonly id: string;
  readonly role: 'origin' | 'tracker' | 'proxy';
  readonly zone?: string;
  readonly answer: unknown;
}

/** A row of the page; what a member that does not answer would tell is left out. */
export interface MemberView {
  readonly id: string;
  readonly role: string;
  readonly zone?: string;
  readonly up: boolean;
  readonly version?: string;
  readonly uptimeSeconds?: number;
  readonly blobs?: number;
  readonly usedBytes?: number;
}

/** A row of a swarm: how full its copy is, and where its bytes came from. */
export interface PeerView {
  readonly id: string;
  readonly role: 'agent' | 'origin';
  /** One hex digit per column, see `fullnessCells`; empty when only the number of pieces is known. */
  readonly cells: string;
  readonly have: number;
  readonly peerBytes: number;
  readonly originBytes: number;
  /** Since when it takes part no more. */
  readonly endedSeconds?: number;
}

/** Anybody may see it: neither the digest nor the size is enough to ask for the blob. */
export interface SwarmView {
  /** Algorithm and the first 12 digits. */
  readonly digest: string;
  /** In whole MiB, rounded up. */
  readonly sizeBytes: number;
  readonly pieces: number;
  readonly state: string;
  readonly progress: number;
  readonly peers: readonly PeerView[];
  /** Peers that are not shown. */
  readonly morePeers: number;
  /** No node takes part any more: since when the last one does not. */
  readonly endedSeconds?: number;
}

/** What waits for the registry behind an upstream. */
export interface WriteBackRow {
  readonly upstream: string;
  readonly waiting: number;
  readonly dead: number;
  readonly oldestSeconds: number;
}

/** Where blobs of an upstream rest beside the origins. */
export interface BackendRow {
  readonly upstream: string;
  readonly kind: string;
  /** Bucket or folder. */
  readonly place: string;
  /**
   * Blobs at origins that the backend is not known to have, and their bytes in whole MiB; undefined for a backend that is
   * only read.
   */
  readonly waiting?: number;
  readonly waitingBytes?: number;
  readonly oldestSeconds: number;
  /** What the last failure said, while there is one. */
  readonly problem?: string;
}

/** What the page shows; figures and names only. */
export interface ClusterView {
  readonly atMs: number;
  readonly clusterVersion: number;
  readonly members: readonly MemberView[];
  readonly swarms: readonly SwarmView[];
  /** By upstream of mode write-back. */
  readonly writeBack: readonly WriteBackRow[];
  /** By upstream that has a backend. */
  readonly backends: readonly BackendRow[];
  readonly totals: {
    readonly peerBytes: number;
    readonly originBytes: number;
    readonly upstreamBytes: number;
    readonly nodes: number;
  };
}

const MAX_SWARMS = 24;
const MAX_PEERS = 128;
const MAX_NODES = 500;
const MAX_UPSTREAMS = 100;
const MAX_PIECES = 1 << 20;
const SHOWN_DIGITS = 12;
const MIB = 1024 * 1024;

/** Builds the page's view from status answers; whatever has not the expected form is left out, never trusted. */
export function clusterView(
  asked: readonly AskedMember[],
  clusterVersion: number,
  nowMs: number,
): ClusterView {
  const swarms = new Map<string, Draft>();
  const nodes = new Map<string, MemberView>();
  const writeBack = new Map<string, WriteBackRow>();
  const backends = new Map<string, BackendRow>();
  let upstreamBytes = 0;
  for (const member of asked) {
    const answer = record(member.answer);
    if (member.role === 'origin') {
      upstreamBytes += fetchedBytes(answer);
      for (const backlog of list(answer['writeBack'])) noteBacklog(writeBack, record(backlog));
      for (const backend of list(answer['backends'])) noteBackend(backends, record(backend));
    }
    if (member.role !== 'tracker') continue;
    for (const node of list(answer['nodes'])) noteNode(nodes, record(node));
    for (const swarm of list(answer['swarms'])) noteSwarm(swarms, record(swarm));
  }
  for (const { id, role, answer } of asked)
    if (role === 'origin')
      for (const fetch of list(record(answer)['fetches'])) noteFetch(swarms, id, record(fetch));
  const busy = [...swarms.values()].filter((swarm) => swarm.peers.size > 0).map(swarmView);
  const shown = busy.sort((a, b) => turnOf(a) - turnOf(b));
  shown.length = Math.min(shown.length, MAX_SWARMS);
  const peers = shown.flatMap((swarm) => swarm.peers);
  return {
    atMs: nowMs,
    clusterVersion,
    members: [...asked.map(memberView), ...[...nodes.values()].sort((a, b) => compare(a.id, b.id))],
    swarms: shown,
    writeBack: [...writeBack.values()].sort((a, b) => compare(a.upstream, b.upstream)),
    backends: [...backends.values()].sort((a, b) => compare(a.upstream, b.upstream)),
    totals: {
      peerBytes: sum(peers, 'peerBytes'),
      originBytes: sum(peers, 'originBytes'),
      upstreamBytes: roundMib(upstreamBytes),
      nodes: nodes.size,
    },
  };
}

/** Those that run first, then those that all have, then those that ended, the latest first. */
function turnOf({ progress, endedSeconds }: SwarmView): number {
  if (endedSeconds !== undefined) return 2 + endedSeconds;
  return progress < 1 ? 0 : 1;
}

/** What an origin took from upstreams: as it says, else what its known fetches hold. */
function fetchedBytes(origin: Record<string, unknown>): number {
  const told = number(origin['upstreamBytes']);
  if (told !== undefined) return told;
  return list(origin['fetches']).reduce<number>((sum, one) => {
    const fetch = record(one);
    const pieces = number(fetch['have']) ?? 0;
    return sum + Math.min(pieces * PIECE_BYTES, number(fetch['sizeBytes']) ?? 0);
  }, 0);
}

interface Draft {
  readonly digest: string;
  readonly sizeBytes: number;
  readonly pieces: number;
  readonly state: string;
  readonly peers: Map<string, PeerView>;
}

function draftOf(swarms: Map<string, Draft>, facts: Record<string, unknown>): Draft | undefined {
  const { digest } = facts;
  const pieces = number(facts['pieces']);
  if (
    typeof digest !== 'string' ||
    !isDigest(digest) ||
    pieces === undefined ||
    pieces < 1 ||
    pieces > MAX_PIECES
  )
    return undefined;
  const known = swarms.get(digest);
  if (known !== undefined) return known;
  const draft = {
    digest,
    sizeBytes: number(facts['sizeBytes']) ?? 0,
    pieces,
    state: text(facts['state']) ?? 'open',
    peers: new Map<string, PeerView>(),
  };
  swarms.set(digest, draft);
  return draft;
}

function noteSwarm(swarms: Map<string, Draft>, facts: Record<string, unknown>): void {
  const draft = draftOf(swarms, facts);
  if (draft === undefined) return;
  for (const peer of list(facts['peers']))
    notePeer(draft, text(record(peer)['nodeId']), 'agent', record(peer));
}

/** An origin's fetch is a row of its swarm; one that has ended makes no swarm of its own. */
function noteFetch(swarms: Map<string, Draft>, originId: string, facts: Record<string, unknown>): void {
  const isOver = facts['state'] === 'final' || facts['state'] === 'failed';
  if (isOver && !swarms.has(String(facts['digest']))) return;
  const draft = draftOf(swarms, facts);
  if (draft !== undefined) notePeer(draft, originId, 'origin', facts);
}

function notePeer(
  draft: Draft,
  id: string | undefined,
  role: PeerView['role'],
  facts: Record<string, unknown>,
): void {
  if (id === undefined || draft.peers.has(id)) return;
  const count = number(facts['have']);
  const have = text(facts['have'], MAX_PIECES / 4) ?? '';
  draft.peers.set(id, {
    id,
    role,
    cells: count === undefined ? fullnessCells(have, draft.pieces) : '',
    have: count === undefined ? countPieces(have, draft.pieces) : Math.min(Math.floor(count), draft.pieces),
    peerBytes: roundMib(number(facts['peerBytes'])),
    originBytes: roundMib(number(facts['originBytes'])),
    ...optional('endedSeconds', number(facts['endedSeconds'])),
  });
}

/** Each origin tells of the repositories that it leads. */
function noteBacklog(rows: Map<string, WriteBackRow>, facts: Record<string, unknown>): void {
  const upstream = text(facts['upstream']);
  if (upstream === undefined || (rows.size >= MAX_UPSTREAMS && !rows.has(upstream))) return;
  const { waiting = 0, dead = 0, oldestSeconds = 0 } = rows.get(upstream) ?? {};
  rows.set(upstream, {
    upstream,
    waiting: waiting + (number(facts['waiting']) ?? 0),
    dead: dead + (number(facts['dead']) ?? 0),
    oldestSeconds: Math.max(oldestSeconds, inSeconds(number(facts['oldestMs'])) ?? 0),
  });
}

/** Each origin tells of its own copies. */
function noteBackend(rows: Map<string, BackendRow>, facts: Record<string, unknown>): void {
  const upstream = text(facts['upstream']);
  const kind = text(facts['kind']);
  const place = text(facts['place']);
  if (upstream === undefined || kind === undefined || place === undefined) return;
  const known = rows.get(upstream);
  if (known === undefined && rows.size >= MAX_UPSTREAMS) return;
  const blobs = number(facts['blobs']);
  const waits =
    blobs === undefined && known?.waiting === undefined
      ? {}
      : {
          waiting: (known?.waiting ?? 0) + (blobs ?? 0),
          waitingBytes: (known?.waitingBytes ?? 0) + roundMib(number(facts['bytes'])),
        };
  rows.set(upstream, {
    ...{ upstream, kind, place, ...waits },
    oldestSeconds: Math.max(known?.oldestSeconds ?? 0, number(facts['oldestSeconds']) ?? 0),
    ...optional('problem', known?.problem ?? text(facts['problem'], 300)),
  });
}

/** At least one peer takes part. */
function swarmView(draft: Draft): SwarmView {
  const of = (role: PeerView['role']): PeerView[] =>
    [...draft.peers.values()].filter((peer) => peer.role === role).sort((a, b) => compare(a.id, b.id));
  const peers = [...of('origin'), ...of('agent')];
  const have = peers.reduce((all, peer) => all + peer.have, 0);
  const ended = of('agent').map(({ endedSeconds }) => endedSeconds);
  const isOver = ended.length > 0 && !ended.includes(undefined);
  return {
    digest: draft.digest.slice(0, draft.digest.indexOf(':') + 1 + SHOWN_DIGITS),
    sizeBytes: Math.ceil(draft.sizeBytes / MIB) * MIB,
    pieces: draft.pieces,
    state: draft.state,
    progress: have / (peers.length * draft.pieces),
    peers: peers.slice(0, MAX_PEERS),
    morePeers: Math.max(0, peers.length - MAX_PEERS),
    ...(isOver ? { endedSeconds: Math.min(...(ended as number[])) } : {}),
  };
}

function memberView(asked: AskedMember): MemberView {
  const answer = record(asked.answer);
  return {
    id: asked.id,
    role: asked.role,
    up: asked.answer !== undefined,
    ...optional('zone', asked.zone),
    ...selfView(answer),
    ...optional('blobs', number(answer['blobs'])),
  };
}

/** What a member says of itself. */
function selfView(
  answer: Record<string, unknown>,
): Pick<MemberView, 'version' | 'uptimeSeconds' | 'usedBytes'> {
  const version = answer['version'];
  return {
    ...optional('version', typeof version === 'number' ? String(version) : text(version)),
    ...optional('uptimeSeconds', number(answer['uptimeSeconds']) ?? inSeconds(number(answer['uptimeMs']))),
    ...optional('usedBytes', inMib(number(answer['usedBytes']) ?? number(answer['storedBytes']))),
  };
}

function noteNode(nodes: Map<string, MemberView>, facts: Record<string, unknown>): void {
  const id = text(facts['id']);
  if (id === undefined || nodes.has(id) || nodes.size >= MAX_NODES) return;
  nodes.set(id, {
    id,
    role: 'agent',
    up: true,
    ...optional('zone', text(facts['zone'])),
    ...selfView(facts),
    ...optional('blobs', number(facts['seeds'])),
  });
}

function inMib(bytes: number | undefined): number | undefined {
  return bytes === undefined ? undefined : roundMib(bytes);
}

function inSeconds(ms: number | undefined): number | undefined {
  return ms === undefined ? undefined : Math.round(ms / 1000);
}

function record(value: unknown): Record<string, unknown> {
  return isObject(value) ? value : {};
}

function list(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}

function number(value: unknown): number | undefined {
  return typeof value === 'number' && Number.isFinite(value) && value >= 0 ? value : undefined;
}

function text(value: unknown, maxChars = 200): string | undefined {
  return typeof value === 'string' && value !== '' ? value.slice(0, maxChars) : undefined;
}

function sum(peers: readonly PeerView[], key: 'peerBytes' | 'originBytes'): number {
  return peers.reduce((total, peer) => total + peer[key], 0);
}

/** What a peer has of a blob in the end is its size: whole MiB here too. */
function roundMib(bytes = 0): number {
  return Math.round(bytes / MIB) * MIB;
}

/** Order of two names that differ. */
function compare(a: string, b: string): number {
  return a < b ? -1 : 1;
}
