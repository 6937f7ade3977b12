import bencode from 'bencode';
import ipaddr from 'ipaddr.js';
import type { PeerPlace, SwarmCounts } from './stranger-table.ts';

/** Least pause between two announces, as a share of the usual one. */
const LEAST_SHARE = 0.5;

/** Answer to an announce (BEP 3); peers in 6 and 18 bytes each (BEP 23, BEP 7), or as dictionaries. */
export function announceAnswer(answer: {
  readonly intervalMs: number;
  readonly counts: SwarmCounts;
  readonly peers: readonly PeerPlace[];
  readonly compact: boolean;
  readonly noPeerId?: boolean;
}): Uint8Array {
  const { counts, peers } = answer;
  const interval = Math.max(1, Math.round(answer.intervalMs / 1_000));
  const common = {
    complete: counts.complete,
    incomplete: counts.incomplete,
    interval,
    'min interval': Math.max(1, Math.round(interval * LEAST_SHARE)),
  };
  if (!answer.compact) {
    const isNamed = answer.noPeerId !== true;
    return bencode.encode({ ...common, peers: peers.map((peer) => entryOf(peer, isNamed)) });
  }
  const six = compactOf(peers, 16);
  return bencode.encode({
    ...common,
    peers: compactOf(peers, 4),
    ...(six.length === 0 ? {} : { peers6: six }),
  });
}

/** Answer to a scrape (BEP 48), by infohash (40 hex). Keys are bytes, so it is written here. */
export function scrapeAnswer(files: ReadonlyMap<string, SwarmCounts>): Uint8Array {
  const parts: Buffer[] = [Buffer.from('d5:filesd')];
  for (const [infoHash, { complete, downloaded, incomplete }] of [...files].sort(([a], [b]) =>
    a < b ? -1 : 1,
  ))
    parts.push(
      Buffer.from('20:'),
      Buffer.from(infoHash, 'hex'),
      Buffer.from(bencode.encode({ complete, downloaded, incomplete })),
    );
  parts.push(Buffer.from('ee'));
  return Buffer.concat(parts);
}

/** A refusal in the form that clients show to their user. */
export function failureAnswer(reason: string): Uint8Array {
  return bencode.encode({ 'failure reason': reason });
}

/** A member's id is not known here: it says it when it is dialled. */
function entryOf({ host, port, peerId }: PeerPlace, isNamed: boolean): object {
  return {
    ip: host,
    port,
    ...(isNamed && peerId !== undefined ? { 'peer id': Buffer.from(peerId, 'hex') } : {}),
  };
}

function compactOf(peers: readonly PeerPlace[], addressBytes: 4 | 16): Uint8Array {
  const entries: Buffer[] = [];
  for (const { host, port } of peers) {
    const address = ipaddr.isValid(host) ? ipaddr.process(host).toByteArray() : [];
    if (address.length !== addressBytes) continue;
    entries.push(Buffer.concat([Buffer.from(address), Buffer.from([port >> 8, port & 0xff])]));
  }
  return new Uint8Array(Buffer.concat(entries));
}
