import { createCipheriv, createHash, randomBytes } from 'node:crypto';
import { Bitfield } from '@sepia/base/bitfield';
import { digestOf } from '@sepia/base/digest';
import { Metainfo } from '@sepia/metainfo/metainfo';
import { PIECE_BYTES, PieceHasher } from '@sepia/metainfo/tree';
import { SwarmEngine, type SwarmEngineOptions } from '../../src/shell/engine.ts';
import { type SwarmNet, TCP } from '../../src/shell/net.ts';
import type { PeerAddress, PieceStore, Swarm } from '../../src/swarm.ts';

export const CLUSTER_KEY = new Uint8Array(32).fill(7);
export const SILENT = { debug() {}, info() {}, warn() {}, error() {} };

/** Random bytes with their digest and final metainfo. */
export function makeBlob(sizeBytes: number) {
  return blobOf(new Uint8Array(randomBytes(sizeBytes)));
}

/** The same bytes in every process. */
export function fixedBytes(sizeBytes: number): Uint8Array {
  const key = Buffer.alloc(16, 3);
  return new Uint8Array(createCipheriv('aes-128-ctr', key, key).update(Buffer.alloc(sizeBytes)));
}

/** These bytes with their digest and final metainfo. */
export function blobOf(bytes: Uint8Array) {
  const sizeBytes = bytes.length;
  const hasher = new PieceHasher();
  hasher.update(bytes);
  const layer = hasher.finish();
  const digest = digestOf(bytes);
  return { bytes, digest, layer, metainfo: () => Metainfo.final(digest, sizeBytes, layer) };
}

/** Pieces of one blob in memory. `twist` may change what is read (liars). */
export class MemoryStore implements PieceStore {
  readonly have: Bitfield;
  readonly bytes: Uint8Array;
  reads = 0;
  twist: (index: number, bytes: Uint8Array) => Uint8Array | Promise<Uint8Array> = (_index, bytes) => bytes;

  constructor(sizeBytes: number, full?: Uint8Array) {
    this.bytes = full ?? new Uint8Array(sizeBytes);
    const count = Math.ceil(sizeBytes / PIECE_BYTES);
    this.have = full === undefined ? new Bitfield(count) : Bitfield.full(count);
  }

  async readPiece(index: number, offset: number, length: number): Promise<Uint8Array> {
    this.reads += 1;
    const start = index * PIECE_BYTES + offset;
    return this.twist(index, this.bytes.subarray(start, start + length));
  }

  async writePiece(index: number, bytes: Uint8Array): Promise<void> {
    this.bytes.set(bytes, index * PIECE_BYTES);
    this.have.add(index);
  }
}

export interface Member {
  readonly engine: SwarmEngine;
  readonly address: PeerAddress;
  readonly peerId: string;
}

/** An engine that listens on loopback. Its peer id is made from `name`. */
export async function startMember(
  name: string,
  options: SwarmEngineOptions & { readonly net?: SwarmNet } = {},
  clusterKey = CLUSTER_KEY,
): Promise<Member> {
  const id = createHash('sha1').update(name).digest();
  const engine = new SwarmEngine(
    { clusterKey, peerId: id, log: SILENT, random: id.readUInt32BE(0), net: options.net ?? TCP },
    options,
  );
  const { port } = await engine.listen('127.0.0.1:0');
  const peerId = id.toString('hex');
  return {
    engine,
    peerId,
    address: { peerId, addresses: [`127.0.0.1:${port}`], origin: options.origin ?? false },
  };
}

type Blob = ReturnType<typeof makeBlob>;

/** Takes part in the swarm of a blob, of which it has all. */
export function joinSeed(
  { engine }: Pick<Member, 'engine'>,
  { digest, metainfo, bytes }: Blob,
  pieces = new MemoryStore(bytes.length, bytes),
): Swarm {
  return engine.join({ digest, metainfo: metainfo(), pieces, leech: false });
}

/** Takes part in the swarm of a blob, of which it has what is in `pieces`: nothing, as a rule. */
export function joinLeech(
  { engine }: Pick<Member, 'engine'>,
  { digest, metainfo, bytes }: Blob,
  pieces = new MemoryStore(bytes.length),
): Swarm {
  return engine.join({ digest, metainfo: metainfo(), pieces, leech: true });
}

export function completed(swarm: Swarm): Promise<void> {
  return new Promise((resolve) => swarm.onComplete(resolve));
}
