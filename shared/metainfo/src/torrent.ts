import { hash } from 'node:crypto';
import type { Digest } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import bencode from 'bencode';
import { PIECE_BYTES, pieceCount } from './tree.ts';

/** Bytes of a piece hash in a v1 torrent (SHA-1). */
export const V1_HASH_BYTES = 20;

/** Media type of a torrent file, as BitTorrent clients ask for it. */
export const TORRENT_TYPE = 'application/x-bittorrent';

/** A blob as a v1 torrent (BEP 3) sees it. `pieces`: {@link V1_HASH_BYTES} a piece, concatenated. */
export interface TorrentFacts {
  readonly digest: Digest;
  readonly sizeBytes: number;
  readonly pieces: Uint8Array;
}

/** SHA-1 of one piece, 20 fresh bytes: what standard clients check, and members never rely on. */
export function v1PieceHash(piece: Uint8Array): Uint8Array {
  return new Uint8Array(hash('sha1', piece, 'buffer'));
}

/** Name of the file in the torrent: `sha256-<hex>`, legal on every file system. */
export function torrentName(digest: Digest): string {
  return digest.replace(':', '-');
}

/**
 * The bencoded info of a blob: {length, name, piece length 1 MiB, pieces, private 1}. The same blob gives the same bytes
 * everywhere, so its infohash is the same wherever it is made. @throws `REQUEST_INVALID` for an empty blob, which has no torrent;
 * `METAINFO_INVALID` without its hashes
 */
export function torrentInfo(facts: TorrentFacts): Uint8Array {
  if (facts.sizeBytes === 0)
    throw new CodedError('REQUEST_INVALID', {
      message: 'an empty blob has no torrent: there is nothing to share',
      detail: { digest: facts.digest },
    });
  if (facts.pieces.length !== pieceCount(facts.sizeBytes) * V1_HASH_BYTES)
    throw new CodedError('METAINFO_INVALID', {
      message: 'no torrent can be made of it: not all of its piece hashes are known',
      detail: { digest: facts.digest },
    });
  return bencode.encode(infoOf(facts));
}

/** Infohash of a torrent: SHA-1 of its bencoded info, 40 hex characters. @throws as {@link torrentInfo} */
export function infoHashOf(facts: TorrentFacts): string {
  return hash('sha1', torrentInfo(facts), 'hex');
}

/**
 * The torrent file. `announce`: trackers, best first, each a tier of its own (BEP 12). `webSeeds`: addresses of the bytes,
 * escaped (BEP 19). @throws as {@link torrentInfo}
 */
export function torrentFile(
  facts: TorrentFacts,
  to: { readonly announce: readonly string[]; readonly webSeeds: readonly string[] },
): Uint8Array {
  torrentInfo(facts);
  return bencode.encode({
    ...(to.announce[0] === undefined ? {} : { announce: to.announce[0] }),
    ...(to.announce.length > 1 ? { 'announce-list': to.announce.map((one) => [one]) } : {}),
    'created by': 'Sepia',
    info: infoOf(facts),
    ...(to.webSeeds.length === 0 ? {} : { 'url-list': [...to.webSeeds] }),
  });
}

function infoOf({ digest, sizeBytes, pieces }: TorrentFacts): Record<string, unknown> {
  return {
    length: sizeBytes,
    name: torrentName(digest),
    'piece length': PIECE_BYTES,
    pieces,
    private: 1,
  };
}
