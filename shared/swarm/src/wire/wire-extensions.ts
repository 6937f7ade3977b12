import { tryParse } from '@sepia/base/failure';
import bencode from 'bencode';
import { isBencoded } from './bencoded.ts';
import { invalidWire, readUint32 } from './frames.ts';
import { NONCE_BYTES } from './wire-auth.ts';

/** Version of the members' wire; a change of meaning raises it. */
export const WIRE_VERSION = 1;

/** Our extension messages and the ids under which we receive them (BEP 10). */
export const EXTENSION_IDS = Object.freeze({ sepia_auth: 1, sepia_have: 2, sepia_gone: 3 });
export type ExtensionName = keyof typeof EXTENSION_IDS;

/** Why a member says goodbye: it has no such swarm, it has no room, it does the same over another wire, it stops. */
const GONE_REASONS = ['dropped', 'full', 'duplicate', 'stopping', 'banned', 'done'] as const;
/** Why a member says goodbye, see `GONE_REASONS`. */
export type GoneReason = (typeof GONE_REASONS)[number];

/** A goodbye. `piece`: what came from here was not what it should be. */
export interface Gone {
  readonly reason: GoneReason;
  readonly piece?: number;
}

/** What a member tells in its extension handshake. */
export interface MemberHello {
  readonly version: number;
  readonly features: number;
  /** Largest block that it serves, bytes. */
  readonly blockBytes: number;
  readonly nonce: Uint8Array;
  readonly origin: boolean;
  readonly zone: string;
}

const ZONE_LIMIT = 64;
const ID_LIMIT = 254;

/** The dictionary of {@link MemberHello}, without `m`: {v, features, block, n, o, z}. */
export function helloDictionary(hello: MemberHello): Record<string, unknown> {
  return {
    v: hello.version,
    features: hello.features,
    block: hello.blockBytes,
    n: hello.nonce,
    o: hello.origin ? 1 : 0,
    z: hello.zone.slice(0, ZONE_LIMIT),
  };
}

/** Reads an extension handshake; unknown keys are skipped. @throws `WIRE_INVALID` and nothing else */
export function readHello(payload: Uint8Array): { hello: MemberHello; ids: Record<ExtensionName, number> } {
  const found = decodeDictionary(payload);
  const map = own(found, 'm');
  if (!isDictionary(map)) throw invalidWire('extension handshake without m');
  const ids = { sepia_auth: 0, sepia_have: 0, sepia_gone: 0 };
  for (const name of Object.keys(ids) as ExtensionName[]) {
    const id = own(map, name);
    if (!isCount(id, ID_LIMIT) || id === 0) throw invalidWire(`no extension ${name}`);
    ids[name] = id;
  }
  const version = own(found, 'v');
  const features = own(found, 'features') ?? 0;
  const blockBytes = own(found, 'block');
  const nonce = own(found, 'n');
  const zone = own(found, 'z');
  if (!isCount(version, 1_000) || version < 1) throw invalidWire('version');
  if (!isCount(features, 2 ** 32)) throw invalidWire('features');
  if (!isCount(blockBytes, 2 ** 24) || blockBytes < 16 * 1024) throw invalidWire('block length');
  if (!(nonce instanceof Uint8Array) || nonce.length !== NONCE_BYTES) throw invalidWire('nonce');
  if (zone !== undefined && (!(zone instanceof Uint8Array) || zone.length > ZONE_LIMIT * 4))
    throw invalidWire('zone');
  const hello = {
    version,
    features,
    blockBytes,
    nonce: new Uint8Array(nonce),
    origin: own(found, 'o') === 1,
    zone: zone === undefined ? '' : Buffer.from(zone).toString('utf8'),
  };
  return { hello, ids };
}

/** Payload of a message that tells of many pieces at once: their indexes, u32 big-endian. */
export function encodeHaves(indexes: readonly number[]): Uint8Array {
  const bytes = Buffer.allocUnsafe(indexes.length * 4);
  for (let i = 0; i < indexes.length; i++) bytes.writeUInt32BE(indexes[i]!, i * 4);
  return bytes;
}

/** Reads a HAVE batch. @throws `WIRE_INVALID` for another length or an index ≥ `pieceCount` */
export function readHaves(payload: Uint8Array, pieceCount: number, limit: number): number[] {
  if (payload.length % 4 !== 0 || payload.length > limit * 4) throw invalidWire('have batch');
  const indexes: number[] = [];
  for (let at = 0; at < payload.length; at += 4) {
    const index = readUint32(payload, at);
    if (index >= pieceCount) throw invalidWire('have out of range');
    indexes.push(index);
  }
  return indexes;
}

/** A goodbye: a byte for the reason; after a bad piece its index (u32, big-endian), which versions before skip. */
export function encodeGone(reason: GoneReason, piece?: number): Uint8Array {
  const code = GONE_REASONS.indexOf(reason);
  return piece === undefined ? Uint8Array.of(code) : Uint8Array.of(code, ...encodeHaves([piece]));
}

/** Reads a goodbye; a reason of a newer version counts as `dropped`. */
export function readGone(payload: Uint8Array): Gone {
  const reason = GONE_REASONS[payload[0] ?? 0] ?? 'dropped';
  return reason === 'banned' && payload.length >= 5 ? { reason, piece: readUint32(payload, 1) } : { reason };
}

function decodeDictionary(payload: Uint8Array): Record<string, unknown> {
  if (!isBencoded(payload)) throw invalidWire('extension handshake is not bencode');
  const read = tryParse<unknown>(() => bencode.decode(payload));
  if (!read.ok) throw Object.assign(invalidWire('extension handshake is not bencode'), { cause: read.cause });
  if (!isDictionary(read.value)) throw invalidWire('extension handshake is no dictionary');
  return read.value;
}

function isDictionary(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !ArrayBuffer.isView(value);
}

function isCount(value: unknown, limit: number): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= limit;
}

function own(dictionary: Record<string, unknown>, key: string): unknown {
  return Object.hasOwn(dictionary, key) ? dictionary[key] : undefined;
}
