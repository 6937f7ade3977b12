/** Names a link of one swarm, drawn by the core for dials and by the shell for what comes in (`LinkId`s never come back). */
export type LinkId = number;
/**
 * `wire`: a connection on which both ends give and take. `http`: an origin that is asked for whole pieces.
 */
export type LinkKind = 'wire' | 'http';

/** A peer as a tracker tells it. `addresses` in order of preference. */
export interface KnownPeer {
  readonly peerId: string;
  readonly addresses: readonly string[];
  readonly origin: boolean;
  readonly zone: string;
}

/** Why a wire ended. `gone`, `full`, `done` and `duplicate` are no fault; `invalid` broke the protocol. */
export type DownReason =
  | 'closed'
  | 'failed'
  | 'gone'
  | 'full'
  | 'done'
  | 'duplicate'
  | 'stopping'
  | 'banned'
  | 'invalid';

/**
 * What a core is told, one at a time, in the order in which it happened. Indexes are 0-based pieces; `link` names a wire or an
 * HTTP source.
 */
export type SwarmEvent =
  | { readonly type: 'peers'; readonly peers: readonly KnownPeer[] }
  | { readonly type: 'httpUp'; readonly link: LinkId; readonly has: (index: number) => boolean }
  | {
      readonly type: 'wireUp';
      readonly link: LinkId;
      readonly peerId: string;
      readonly origin: boolean;
      readonly zone: string;
      readonly dialled: boolean;
      readonly isStranger?: boolean;
    }
  /** A stranger choked us, or unchoked us (BEP 3). */
  | { readonly type: 'choked'; readonly link: LinkId; readonly on: boolean }
  | { readonly type: 'linkDown'; readonly link: LinkId; readonly reason: DownReason }
  | { readonly type: 'bitfield'; readonly link: LinkId; readonly indexes: Iterable<number> }
  | { readonly type: 'haves'; readonly link: LinkId; readonly indexes: readonly number[] }
  | { readonly type: 'suggested'; readonly link: LinkId; readonly index: number }
  /** A peer asks for a piece; answered by `readPiece` or `refuse`. */
  | { readonly type: 'asked'; readonly link: LinkId; readonly index: number }
  | { readonly type: 'progress'; readonly link: LinkId; readonly index: number; readonly bytes: number }
  /** All bytes of a piece are here; `good`: its hash is right. */
  | { readonly type: 'fetched'; readonly link: LinkId; readonly index: number; readonly good: boolean }
  /** The link will not bring this piece. `busy`: this side had no buffer. */
  | { readonly type: 'fetchFailed'; readonly link: LinkId; readonly index: number; readonly busy: boolean }
  | { readonly type: 'written'; readonly index: number; readonly ok: boolean }
  /** Stored by somebody else. */
  | { readonly type: 'landed'; readonly index: number }
  /** More piece hashes are known. */
  | { readonly type: 'hashes' }
  | { readonly type: 'buffers' }
  /** Opens or moves a reader that reads no further than `last` (the last piece unless given). */
  | { readonly type: 'reader'; readonly reader: number; readonly index: number; readonly last?: number }
  | { readonly type: 'readerClosed'; readonly reader: number }
  | { readonly type: 'leech'; readonly on: boolean }
  /** From now on every piece is wanted, not only what readers cover. */
  | { readonly type: 'wantAll' }
  | { readonly type: 'timer'; readonly key: 'tick' };

/** What the shell is to do. Each `fetch` is answered by one `fetched` or `fetchFailed`, unless cancelled or its link goes down. */
export type SwarmEffect =
  | { readonly type: 'dial'; readonly link: LinkId; readonly peerId: string; readonly address: string }
  /** `piece`: the one that came wrong from it. */
  | { readonly type: 'close'; readonly link: LinkId; readonly reason: DownReason; readonly piece?: number }
  | { readonly type: 'sendBitfield'; readonly link: LinkId }
  | { readonly type: 'sendHave'; readonly link: LinkId; readonly index: number }
  | { readonly type: 'sendSuggest'; readonly link: LinkId; readonly index: number }
  | { readonly type: 'fetch'; readonly link: LinkId; readonly index: number }
  | { readonly type: 'cancel'; readonly link: LinkId; readonly index: number }
  | { readonly type: 'readPiece'; readonly link: LinkId; readonly index: number }
  | { readonly type: 'refuse'; readonly link: LinkId; readonly index: number }
  /** Keep the piece that `link` brought; answered by `written`. */
  | { readonly type: 'writePiece'; readonly link: LinkId; readonly index: number }
  /** The piece that `link` brought is not needed (twice) or bad. */
  | { readonly type: 'dropPiece'; readonly link: LinkId; readonly index: number; readonly bad: boolean }
  | { readonly type: 'setTimer'; readonly key: 'tick'; readonly atMs: number }
  | { readonly type: 'wantPeers' }
  | { readonly type: 'finish' }
  | {
      readonly type: 'log';
      readonly level: 'debug' | 'warn';
      readonly message: string;
      readonly detail: Readonly<Record<string, unknown>>;
    };

/** Takes the effects of the core, one call each, in the order in which they are to be done. */
export type Emit = (effect: SwarmEffect) => void;
