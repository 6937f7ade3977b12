import type { Socket } from 'node:net';
import type { Digest } from '@sepia/base/digest';
import { pieceCount } from '@sepia/metainfo/tree';
import type { LinkId, SwarmEvent } from '../core/events.ts';
import type { PieceFrom, PieceStore } from '../swarm.ts';
import type { LinkOwner, PieceWire, ProvenPeer } from '../wire/wire-owner.ts';
import type { Arrivals } from './arrivals.ts';
import { downReason, PeerLink } from './peer-link.ts';
import type { SlabPool } from './slab-pool.ts';
import type { UploadBudget, UploadGate } from './upload.ts';
import type { WireWarnings } from './wire-warnings.ts';

/** The parts of a swarm that its wires need. */
export interface LinkDeps {
  readonly digest: Digest;
  readonly sizeBytes: number;
  readonly pieces: PieceStore;
  readonly slabs: SlabPool;
  readonly arrivals: Arrivals;
  readonly warnings: WireWarnings;
  /** Wires that are ready. */
  readonly links: Map<LinkId, PeerLink>;
  readonly isLeft: () => boolean;
  /** A wire is ready or gone: it is no dial any more. */
  readonly settle: (link: LinkId) => void;
  readonly onSent: (bytes: number) => void;
  readonly tell: (event: SwarmEvent) => void;
}

/** What listens to the wire of `link`, before and after it is ready. `upload`: what its requests are served from. */
export function linkOwner(
  deps: LinkDeps,
  link: LinkId,
  socket: Socket,
  upload: { readonly budget: UploadBudget; readonly gate?: UploadGate },
): LinkOwner {
  const { tell, slabs } = deps;
  let peerLink: PeerLink | undefined;
  const onReady = (wire: PieceWire, peer: ProvenPeer, dialled: boolean): void => {
    deps.settle(link);
    if (deps.isLeft()) {
      wire.goodbye('dropped');
      return;
    }
    const { peerId, origin, zone, isStranger = false } = peer;
    peerLink = new PeerLink({
      id: link,
      wire,
      peer,
      socket,
      sizeBytes: deps.sizeBytes,
      pieces: deps.pieces,
      ...upload,
      fetches: {
        onProgress: (index, bytes) => tell({ type: 'progress', link, index, bytes }),
        onPiece: (index, slab, lengthBytes) =>
          deps.arrivals.add(link, index, { slab, lengthBytes, from: fromOf(peer), peerId }),
        onFailed: (index, slab) => {
          slabs.release(slab);
          tell({ type: 'fetchFailed', link, index, busy: false });
        },
      },
      onSent: deps.onSent,
      tell,
    });
    deps.links.set(link, peerLink);
    tell({ type: 'wireUp', link, peerId, origin, zone, dialled, isStranger });
  };
  const events: LinkOwner['events'] = {
    onBitfield: (pieces) => tell({ type: 'bitfield', link, indexes: pieces }),
    onHaves: (indexes) => tell({ type: 'haves', link, indexes }),
    onSuggest: (index) => tell({ type: 'suggested', link, index }),
    onRequest: (index, offset, length) => peerLink?.onRequest(index, offset, length),
    onCancel: (index, offset) => peerLink?.onCancel(index, offset),
    onBlock: (index, _offset, count, done) => peerLink?.fetcher.onBlock(index, count, done),
    onReject: (index) => peerLink?.fetcher.onReject(index),
    onDrain: () => peerLink?.onDrain(),
    onClosed: (gone, error) => {
      deps.settle(link);
      deps.links.delete(link);
      peerLink?.stop();
      for (const slab of peerLink?.fetcher.stop() ?? []) slabs.release(slab);
      const facts = { address: socket.remoteAddress, digest: deps.digest };
      deps.warnings.ended(error, 'wire closed', facts);
      const { piece } = gone ?? {};
      const isKnown = peerLink !== undefined && piece !== undefined && piece < pieceCount(deps.sizeBytes);
      if (isKnown) deps.pieces.complained?.(piece);
      tell({ type: 'linkDown', link, reason: downReason(gone?.reason, error) });
    },
  };
  return { events, onReady };
}

function fromOf({ origin, isStranger }: ProvenPeer): PieceFrom {
  if (isStranger === true) return 'stranger';
  return origin ? 'origin' : 'peer';
}
