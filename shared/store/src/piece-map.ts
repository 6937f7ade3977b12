import { Bitfield } from '@sepia/base/bitfield';
import type { Digest } from '@sepia/base/digest';
import { throwIfBug } from '@sepia/base/failure';
import { Metainfo } from '@sepia/metainfo/metainfo';
import { corrupt, seal, unseal } from './sealed.ts';

const MAGIC = 'SPP1';
const DATA_NAME = /^sha(?:256|512)-[0-9a-f]{64,128}\.[0-9a-f]{8}$/;

/** What is kept of a blob in the making, beside its bytes. */
export interface PieceMap {
  readonly metainfo: Metainfo;
  /** Pieces on disk; each has a known hash. */
  readonly have: Bitfield;
  /** Name of the data file under `partial/`; a new attempt takes a new one, so that an old map never names new bytes. */
  readonly dataName: string;
  /** Boot in which the map was written. */
  readonly bootId: string;
  /** True if data and map were synced: then it is believed after any reboot. */
  readonly synced: boolean;
  /** Upstreams whose bytes the pieces are; none: not known. */
  readonly sources: readonly string[];
}

/** A name for the data file of `digest`; `salt`: 8 hex characters. */
export function partialDataName(digest: Digest, salt: string): string {
  return `${digest.replace(':', '-')}.${salt}`;
}

/** The bytes of `<partial>.map`, as `decodePieceMap` reads them. */
export function encodePieceMap(map: PieceMap): Uint8Array {
  const { metainfo, have, dataName, bootId, synced, sources } = map;
  const meta = metainfo.encode();
  const header = { v: 1, dataName, bootId, synced, sources, metainfoBytes: meta.length };
  return seal(MAGIC, { header, body: Buffer.concat([meta, have.bytes]) });
}

/** Reads {@link encodePieceMap}. @throws `DISK_CORRUPT` and nothing else */
export function decodePieceMap(bytes: Uint8Array): PieceMap {
  const { header, body } = unseal(MAGIC, bytes);
  const { dataName, bootId, synced, metainfoBytes, sources = [] } = header;
  if (typeof dataName !== 'string' || !DATA_NAME.test(dataName)) throw corrupt('data name');
  if (typeof bootId !== 'string' || typeof synced !== 'boolean') throw corrupt('boot');
  if (!Array.isArray(sources) || !sources.every((one) => typeof one === 'string')) throw corrupt('sources');
  if (!Number.isSafeInteger(metainfoBytes) || (metainfoBytes as number) < 0) throw corrupt('metainfo length');
  const metainfo = decodeMetainfo(body.subarray(0, metainfoBytes as number));
  const bits = body.subarray(metainfoBytes as number);
  const have = new Bitfield(metainfo.pieceCount, bits);
  if (bits.length !== have.bytes.length || Buffer.compare(bits, have.bytes) !== 0) throw corrupt('bitfield');
  for (const index of have) if (!metainfo.knows(index)) throw corrupt(`piece ${index} without hash`);
  return { metainfo, have, dataName, bootId, synced, sources };
}

function decodeMetainfo(bytes: Uint8Array): Metainfo {
  try {
    return Metainfo.decode(bytes);
  } catch (cause) {
    throwIfBug(cause);
    throw corrupt('metainfo', cause);
  }
}
